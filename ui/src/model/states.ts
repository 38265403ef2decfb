/** The states of tasks and executions, with labels and signs. */

import type { State } from "../api/schema";

export type { State };

export const STATES = [
  "notstarted",
  "running",
  "upforretry",
  "skipped",
  "failed",
  "successful",
  "cancelled",
] as const satisfies readonly State[];

/** The label of a state. */
export const LABEL: Record<State, string> = {
  notstarted: "not started",
  running: "running",
  upforretry: "up for retry",
  skipped: "skipped",
  failed: "failed",
  successful: "successful",
  cancelled: "cancelled",
};

/** The sign of a state: an SVG path in a 12 by 12 box. */
export const SIGN: Record<State, string> = {
  notstarted: "M6 6h.01",
  running: "M4.5 3.2l4.3 2.8-4.3 2.8z",
  upforretry: "M9.2 6A3.2 3.2 0 1 1 8.2 3.7M8.6 1.8v2.2h-2.2",
  skipped: "M3.2 6h5.6",
  failed: "M3.5 3.5l5 5M8.5 3.5l-5 5",
  successful: "M2.8 6.4l2.2 2.2 4.2-5",
  cancelled: "M3.6 3.6h4.8v4.8h-4.8z",
};

/** Whether the state is final. */
export function isFinished(state: State): boolean {
  return state === "successful" || state === "failed" || state === "skipped" || state === "cancelled";
}

/** The number of each state, in words: "20 successful, 3 failed". */
export function tally(states: Iterable<State>): string {
  const counts = new Map<State, number>();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...STATES]
    .reverse()
    .filter((state) => counts.has(state))
    .map((state) => `${counts.get(state)} ${LABEL[state]}`);
  return parts.join(", ") || "none yet";
}
