/** Tasks that run, but wait without a slot until they look again. Pure: the current time is an argument. */

import type { Waiting } from "../api/schema";

/**
 * When a waiting task looks again, in milliseconds since 1970. Looks for the same reason change
 * nothing that is sent, so a time that has passed is continued.
 */
export function nextLook({ again, every }: Waiting, now: number): number {
  const first = Date.parse(again);
  const step = every * 1000;
  if (first >= now || step <= 0) return first;
  return first + Math.ceil((now - first) / step) * step;
}
