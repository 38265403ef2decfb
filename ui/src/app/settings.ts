/** Settings kept by the browser for all pages: theme, time zone, and the format of logs. */

import { effect, signal, type Signal } from "@preact/signals";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

/** The time zone of displayed times: the browser's, the job's, or UTC. */
export const ZONES = ["local", "job", "utc"] as const;
export type Zone = (typeof ZONES)[number];

export const theme = kept<Theme>("theme", THEMES);
export const zone = kept<Zone>("zone", ZONES);

/** Whether long log lines wrap. */
export const wrap = kept<"off" | "on">("wrap", ["off", "on"]);

/** Whether log lines begin with their time. */
export const stamps = kept<"off" | "on">("stamps", ["off", "on"]);

/** A signal with one of `values`, the first by default, kept under `key`. */
function kept<Value extends string>(key: string, values: readonly Value[]): Signal<Value> {
  const place = `goflow.${key}`;
  const held = storage()?.getItem(place);
  const cell = signal(values.find((value) => value === held) ?? values[0]!);
  effect(() => storage()?.setItem(place, cell.value));
  return cell;
}

/** The browser's storage; null if it is disabled, and settings last as long as the page. */
function storage(): Storage | null {
  try {
    return localStorage;
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}

/** The value after `value`, the first one after the last. */
export function following<Value>(values: readonly Value[], value: Value): Value {
  return values[(values.indexOf(value) + 1) % values.length]!;
}

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});
