/** A job's last executions as bars, and their summary. Pure. */

import { isFinished, type State } from "./states";

export interface Run {
  state: State;
  started: string | null;
  finished: string | null;
}

/** The duration until the end or `now`, in milliseconds; null if it has not started. */
export function tookOf({ started, finished }: Run, now: number): number | null {
  if (started === null) return null;
  return Math.max(0, (finished === null ? now : Date.parse(finished)) - Date.parse(started));
}

/**
 * The height of a bar, from 0 to 1, if the longest took `longest` milliseconds. The square root keeps
 * short durations distinguishable.
 */
export function heightOf(took: number | null, longest: number): number {
  if (took === null || longest <= 0) return 0;
  return Math.sqrt(Math.min(1, took / longest));
}

export interface Record {
  /** The share of successful ones among successful and failed; null if there are none. */
  rate: number | null;
  /** The median duration of successful ones in milliseconds; null if there are none. */
  typical: number | null;
  longest: number;
}

/** The summary of finished executions. Cancelled and skipped ones do not count. */
export function recordOf(runs: Run[]): Record {
  let [won, lost, longest] = [0, 0, 0];
  const times: number[] = [];
  for (const run of runs) {
    if (run.state === "successful") won++;
    else if (run.state === "failed") lost++;
    if (!isFinished(run.state) || run.finished === null) continue;
    const took = tookOf(run, 0);
    if (took === null) continue;
    longest = Math.max(longest, took);
    if (run.state === "successful") times.push(took);
  }
  return { rate: won + lost ? won / (won + lost) : null, typical: middle(times), longest };
}

/** The median; null for an empty list. */
export function middle(values: number[]): number | null {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** A share as a percentage: "100 %", "99.2 %", "0 %". Only 1 is shown as 100 %. */
export function percent(part: number): string {
  const value = part * 100;
  const rounded = value > 99 && value < 100 ? Math.min(99.9, Math.floor(value * 10) / 10) : Math.floor(value);
  return `${rounded} %`;
}
