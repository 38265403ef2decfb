/** Outcomes of due times: their signs and words. */

import type * as Schema from "../api/schema";
import type { TickOutcome as Outcome, TickView as Tick } from "../api/schema";

export type { Outcome, Tick };
export type Upcoming = Pick<Schema.Upcoming, "upcoming" | "clock_changes" | "skipped">;

export const OUTCOMES: readonly Outcome[] = ["fired", "skipped", "missed", "merged"];

/** The sign of an outcome, as an SVG path. */
export const OUTCOME_SIGN: Record<Outcome, string> = {
  fired: "M2.8 6h6M6.2 3.2L9 6l-2.8 2.8",
  skipped: "M3.2 6h5.6",
  missed: "M6 2.8v3.6M6 9h.01",
  merged: "M3 3l3 3.2L9 3M6 6.2v3",
};

/** The label of a tick: "missed", or "missed 40 times" for several. */
export function outcomeOf({ outcome, count }: Tick): string {
  return count === 1 ? outcome : `${outcome} ${count.toLocaleString("en")} times`;
}

/** `ticks`, newest first; consecutive ones that did not fire for the same reason are merged. */
export function inRuns(ticks: Tick[]): Tick[] {
  const runs: Tick[] = [];
  for (const tick of ticks) {
    const later = runs.at(-1);
    if (later && !tick.execution && later.outcome === tick.outcome && later.reason === tick.reason)
      runs[runs.length - 1] = { ...tick, count: tick.count + later.count, until: later.until ?? later.due };
    else runs.push(tick);
  }
  return runs;
}

/** The number of each outcome, in words: "3 fired, 40 missed". */
export function tallyOf(ticks: Tick[]): string {
  return OUTCOMES.map((outcome) => {
    const count = ticks.reduce((sum, tick) => sum + (tick.outcome === outcome ? tick.count : 0), 0);
    return count ? `${count.toLocaleString("en")} ${outcome}` : "";
  })
    .filter(Boolean)
    .join(", ");
}
