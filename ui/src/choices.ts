/** What the reader chose, kept in the address: a reload or a link shows the same. */

import { signal } from "@preact/signals";
import { lastOf, withChoice } from "./route";

/** How many executions are shown. */
export const last = signal(lastOf(location.search));

export function chosen(key: string): string | null {
  return new URLSearchParams(location.search).get(key);
}

/** Keeps a choice in the address without a new entry in the history; null takes it out. */
export function choose(key: string, value: string | null): void {
  history.replaceState(null, "", location.pathname + withChoice(location.search, key, value));
}
