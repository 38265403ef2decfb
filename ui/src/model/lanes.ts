/** What runs, waits and comes next, a lane a job, on one axis of time. Pure. */

import type { Execution } from "./board";
import { isFinished, type State } from "./states";

export interface Piece {
  id: string;
  state: State;
  /** From and to, as parts of the axis from 0 to 1; what waits begins when it was submitted. */
  from: number;
  to: number;
  /** Whether it waits to begin. */
  waits: boolean;
}

export interface Lane {
  job: string;
  pieces: Piece[];
  /** When it is due next, as parts of the axis. */
  dues: { at: number; due: string }[];
  running: boolean;
  waits: boolean;
}

/** The axis: milliseconds since 1970. */
export interface Span {
  from: number;
  to: number;
}

/** The axis around `now`: `past` milliseconds before it and `ahead` after it. */
export function spanAround(now: number, past: number, ahead: number): Span {
  return { from: now - past, to: now + ahead };
}

/** The part of the axis a time stands at; below 0 and above 1 beside it. */
export function placeOf(time: number, { from, to }: Span): number {
  return (time - from) / (to - from);
}

/**
 * The lanes of all jobs with anything on the axis: first those that run, then those that
 * wait, then by what comes next. What lies wholly beside the axis is left out.
 */
export function lanesOf(
  executions: Iterable<Execution>,
  upcoming: { job: string; due: string }[],
  now: number,
  span: Span,
): Lane[] {
  const lanes = new Map<string, Lane>();
  const lane = (job: string) => {
    let found = lanes.get(job);
    if (!found) lanes.set(job, (found = { job, pieces: [], dues: [], running: false, waits: false }));
    return found;
  };
  for (const { id, job, state, submitted, started, finished } of executions) {
    const waits = !isFinished(state) && !started;
    const begin = Date.parse(started ?? submitted);
    const end = isFinished(state) ? Date.parse(finished ?? started ?? submitted) : now;
    const [from, to] = [placeOf(begin, span), placeOf(end, span)];
    if (to < 0 || from > 1) continue;
    const held = lane(job);
    held.pieces.push({ id, state, from: Math.max(0, from), to: Math.min(1, to), waits });
    if (waits) held.waits = true;
    else if (!isFinished(state)) held.running = true;
  }
  for (const { job, due } of upcoming) {
    const at = placeOf(Date.parse(due), span);
    if (at >= 0 && at <= 1) lane(job).dues.push({ at, due });
  }
  const rank = ({ running, waits }: Lane) => (running ? 0 : waits ? 1 : 2);
  const next = ({ dues }: Lane) => dues[0]?.at ?? Infinity;
  const ended = ({ pieces }: Lane) => Math.max(0, ...pieces.map(({ to }) => to));
  return [...lanes.values()].sort(
    (a, b) => rank(a) - rank(b) || (next(a) === next(b) ? ended(b) - ended(a) : next(a) - next(b)) || (a.job < b.job ? -1 : 1),
  );
}

/** Round times for the axis, from coarse to fine as many as fit, and what they say. */
export function hoursOf({ from, to }: Span, most: number): number[] {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * 60_000);
  const step = steps.find((one) => (to - from) / one <= most) ?? steps.at(-1)!;
  const all: number[] = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) all.push(time);
  return all;
}
