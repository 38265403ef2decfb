/** What the server has noticed and people should know of, as the health answer says it. */

import type { Notice } from "../api/schema";

const FRESH = 24 * 3600 * 1000; // milliseconds

/** The newest notice, and how many others there are, of the day before `now`; null if none. */
export function newest(notices: Notice[], now: number): { notice: Notice; others: number } | null {
  const fresh = notices.filter(({ at }) => now - Date.parse(at) < FRESH);
  const notice = fresh.at(-1);
  return notice ? { notice, others: fresh.length - 1 } : null;
}
