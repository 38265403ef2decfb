/** The progress of running tasks, and the costs of attempts, in words. Pure. */

import type { Bar, Cost } from "../api/schema";
import { bytes } from "./series";
import { span } from "./time";

/** The part that is done, from 0 to 1; null if the total is unknown. */
export function shareOf({ done, total }: Bar): number | null {
  return total ? Math.min(done / total, 1) : null;
}

export const numberText = (value: number): string => value.toLocaleString("en", { maximumFractionDigits: 3 });

/** "450 of 1,200, 37 %". */
export function doneText(bar: Bar): string {
  if (bar.total === null) return `${numberText(bar.done)} done`;
  const share = shareOf(bar);
  return `${numberText(bar.done)} of ${numberText(bar.total)}${share === null ? "" : `, ${Math.floor(share * 100)} %`}`;
}

/** A quantity of which costs have an amount: how to find and to write it. */
export interface Measure {
  name: string;
  of: (cost: Cost) => number;
  says: (amount: number) => string;
  ticks: (most: number) => number[];
}

const FIXED: Measure[] = [
  { name: "Processor time", of: (cost) => cost.processor_seconds, says: (seconds) => span(seconds * 1000), ticks: amountTicks },
  { name: "Peak memory", of: (cost) => cost.peak_memory, says: bytes, ticks: sizeTicks },
  { name: "Log", of: (cost) => cost.log_bytes, says: bytes, ticks: sizeTicks },
];

/** The measures of which at least one cost has an amount that is not 0. */
export function measuresOf(costs: (Cost | null | undefined)[]): Measure[] {
  const known = costs.filter((cost): cost is Cost => Boolean(cost));
  const names = [...new Set(known.flatMap(({ counts }) => Object.keys(counts)))];
  const counted = names.map((name): Measure => ({ name, of: ({ counts }) => counts[name] ?? 0, says: numberText, ticks: amountTicks }));
  return [...FIXED, ...counted].filter(({ of }) => known.some((cost) => of(cost) !== 0));
}

/** "Processor time 1.2 s", "rows 1,200" and so on. */
export function costTexts(cost: Cost): { name: string; amount: string }[] {
  return measuresOf([cost]).map(({ name, of, says }) => ({ name, amount: says(of(cost)) }));
}

/** Round amounts for an axis up to `most`: at most `steps` and a few of them. */
export function amountTicks(most: number, steps = 2): number[] {
  if (!(most > 0)) return [0];
  const power = 10 ** Math.floor(Math.log10(most / steps));
  const step = [1, 2, 5, 10].map((n) => n * power).find((round) => most / round <= steps)!;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, n) => n * step);
}

/** The same for bytes: round amounts of KiB, MiB and so on. */
export function sizeTicks(most: number): number[] {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(most, 1)) / 10));
  return amountTicks(most / unit).map((tick) => tick * unit);
}
