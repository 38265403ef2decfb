/** A year of days in weeks, Monday first, as a calendar shows them. Pure: days are "2026-11-21". */

import type { Cost } from "../api/schema";
import type { State } from "./states";

export interface DayCounts {
  day: string;
  states: Partial<Record<State, number>>;
  missed: number;
  skipped: number;
  seconds: number;
  cost?: Cost;
}

export interface Cell {
  day: string;
  /** Column, from 0, and row, Monday being 0. */
  week: number;
  weekday: number;
  counts: DayCounts | null;
}

export interface Month {
  /** As "2026-11". */
  month: string;
  /** The column of its first full week. */
  week: number;
}

export const WEEKS = 53;

const DAY = 86_400_000;
const at = (day: string) => Date.parse(`${day}T00:00:00Z`);
const name = (time: number) => new Date(time).toISOString().slice(0, 10);
const weekdayOf = (time: number) => (new Date(time).getUTCDay() + 6) % 7;

/** The `WEEKS` weeks up to today's, and the first column of each month. */
export function yearTo(today: string, days: DayCounts[]): { cells: Cell[]; months: Month[] } {
  const byDay = new Map(days.map((counts) => [counts.day, counts]));
  const last = at(today);
  const first = last - (weekdayOf(last) + 7 * (WEEKS - 1)) * DAY;
  const cells: Cell[] = [];
  const months: Month[] = [];
  for (let time = first, n = 0; time <= last; time += DAY, n++) {
    const day = name(time);
    const week = Math.floor(n / 7);
    cells.push({ day, week, weekday: n % 7, counts: byDay.get(day) ?? null });
    const month = day.slice(0, 7);
    if (n % 7 === 0 && month !== months.at(-1)?.month) months.push({ month, week });
  }
  return { cells, months };
}

export type Look = "none" | "good" | "mixed" | "bad" | "missed";

/** The look of a day, from its results. */
export function lookOf(counts: DayCounts | null): Look {
  if (!counts) return "none";
  const { successful = 0, failed = 0 } = counts.states;
  if (failed > 0) return failed >= successful ? "bad" : "mixed";
  if (counts.missed > 0) return "missed";
  return Object.keys(counts.states).length ? "good" : "none";
}

/**
 * The weight of a day's colour, from 1 to 4, relative to the busiest day. The square root keeps the
 * other days distinguishable.
 */
export function weightOf(counts: DayCounts | null, most: number): number {
  const sum = countOf(counts);
  return sum === 0 || most === 0 ? 0 : Math.max(1, Math.ceil(4 * Math.sqrt(sum / most)));
}

export function countOf(counts: DayCounts | null): number {
  return Object.values(counts?.states ?? {}).reduce((sum, count) => sum + count, 0);
}
