/** Durations of executions and tasks: median, spread and outliers. Pure. */

import { middle, tookOf, type Run } from "./bars";

export interface Durations {
  median: number;
  /** The 90th percentile. */
  high: number;
  longest: number;
  /** Durations above it are outliers (Tukey: 1.5 interquartile ranges above the third quartile). */
  fence: number;
}

const FEW = 5; // fewer durations have no outliers

/** The summary of durations in milliseconds; null if there are none. */
export function durationsOf(values: number[]): Durations | null {
  const median = middle(values);
  if (median === null) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
  const [low, up] = [at(0.25), at(0.75)];
  return {
    median,
    high: at(0.9),
    longest: sorted.at(-1)!,
    fence: sorted.length < FEW ? Infinity : up + 1.5 * (up - low),
  };
}

/** Steps for an axis up to `most` milliseconds: round times, at most `steps` and a few of them. */
export function ticksOf(most: number, steps = 5): number[] {
  const rounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3,
    1800e3, 3600e3, 7200e3, 10800e3, 21600e3, 43200e3, 86400e3, 172800e3, 604800e3]; // prettier-ignore
  const step = rounds.find((round) => most / round <= steps) ?? Math.ceil(most / steps / 86400e3) * 86400e3;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}

/** The median duration of each task, slowest first. Tasks without finished runs are left out. */
export function slowest(tasks: { name: string; runs: Run[] }[]): { name: string; typical: number }[] {
  return tasks
    .map(({ name, runs }) => ({
      name,
      typical: middle(runs.filter(({ finished }) => finished !== null).map((run) => tookOf(run, 0) ?? 0)),
    }))
    .filter((task): task is { name: string; typical: number } => task.typical !== null)
    .sort((a, b) => b.typical - a.typical);
}
