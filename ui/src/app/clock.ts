/**
 * The clock: the only place that reads the browser's time.
 *
 * Rule: the timer runs only while something on the page depends on it.
 */

import { signal } from "@preact/signals";

/** The current time in milliseconds since 1970. */
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
