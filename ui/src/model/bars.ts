/** A job's last executions as bars, and what they say together. Pure. */

import { isFinished, type State } from "./states";

export interface Run {
  state: State;
  started: string | null;
  finished: string | null;
}

/** How long it took, or has taken by `now`, in milliseconds; null if it has not begun. */
export function tookOf({ started, finished }: Run, now: number): number | null {
  if (started === null) return null;
  return Math.max(0, (finished === null ? now : Date.parse(finished)) - Date.parse(started));
}

/**
 * How high a bar stands, from 0 to 1, where the longest took `longest` milliseconds. The root
 * keeps short ones apart where one was long.
 */
export function heightOf(took: number | null, longest: number): number {
  if (took === null || longest <= 0) return 0;
  return Math.sqrt(Math.min(1, took / longest));
}

export interface Record {
  /** Of those that ended successful or failed, the part that was successful; null if none. */
  rate: number | null;
  /** The middle of how long the successful ones took, in milliseconds; null if none. */
  typical: number | null;
  longest: number;
}

/** What finished executions say together; the cancelled and the skipped say nothing. */
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

/** The median; null of nothing. */
export function middle(values: number[]): number | null {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** A part of one in words: "100 %", "99.2 %", "0 %"; what is not all is never rounded to all. */
export function percent(part: number): string {
  const value = part * 100;
  const rounded = value > 99 && value < 100 ? Math.min(99.9, Math.floor(value * 10) / 10) : Math.floor(value);
  return `${rounded} %`;
}
