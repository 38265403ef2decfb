/** Notices of the server. */

import type { Notice } from "../api/schema";

const FRESH = 24 * 3600 * 1000; // milliseconds

/** The latestNotice notice of the last day, and the number of others; null if there are none. */
export function latestNotice(notices: Notice[], now: number): { notice: Notice; others: number } | null {
  const fresh = notices.filter(({ at }) => now - Date.parse(at) < FRESH);
  const notice = fresh.at(-1);
  return notice ? { notice, others: fresh.length - 1 } : null;
}
