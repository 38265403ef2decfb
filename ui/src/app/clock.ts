/**
 * What time it is: the only place that asks the browser for it.
 *
 * Rule: the second ticks only while something on the page reads it.
 */

import { signal } from "@preact/signals";

/** Milliseconds since 1970. */
export const now = (): number => Date.now();

let timer: ReturnType<typeof setInterval> | undefined;

/** The time at the beginning of this second, in milliseconds since 1970. */
export const second = signal(now(), {
  watched() {
    second.value = now();
    timer = setInterval(() => (second.value = now()), 1000);
  },
  unwatched() {
    clearInterval(timer);
  },
});
