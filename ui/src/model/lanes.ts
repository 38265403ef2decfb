/**
 * Lanes of the page Now: a lane per job with its executions and due times on one time axis. Pure.
 *
 * Rule: overlapping pieces are merged, so that a lane has no more pieces than fit, however often its
 * job runs.
 */

import type { Execution } from "./live";
import { isFinished, type State } from "./states";

export interface Piece {
  id: string;
  state: State;
  /** Start and end on the axis, from 0 to 1. A waiting execution starts at its submit. */
  from: number;
  to: number;
  /** Whether it has not started. */
  waits: boolean;
  /** The number of merged executions; the other values are those of the worst and newest. */
  count: number;
}

/** A due time, or several merged ones. */
export interface Due {
  /** Positions on the axis, from 0 to 1. */
  at: number;
  until: number;
  due: string;
  count: number;
}

export interface Lane {
  job: string;
  pieces: Piece[];
  /** The next due time. */
  dues: Due[];
  /** The end of the known due times on the axis if there are more; else 1. */
  known: number;
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

/** The position of a time on the axis, from 0 to 1; outside of that it is not on it. */
export function placeOf(time: number, { from, to }: Span): number {
  return (time - from) / (to - from);
}

/** The minimum sizes of pieces and due times on the axis, and the number of due times per job. */
export interface Grain {
  piece: number;
  due: number;
  each: number;
}

/**
 * The lanes of all jobs with anything on the axis: running ones first, then waiting ones, then by the
 * next due time.
 */
export function lanesOf(
  executions: Iterable<Execution>,
  upcoming: { job: string; due: string }[],
  now: number,
  span: Span,
  grain: Grain,
): Lane[] {
  const lanes = new Map<string, Lane>();
  const lane = (job: string) => {
    let found = lanes.get(job);
    if (!found) lanes.set(job, (found = { job, pieces: [], dues: [], known: 1, running: false, waits: false }));
    return found;
  };
  for (const { id, job, state, submitted, started, finished } of executions) {
    const waits = !isFinished(state) && !started;
    const begin = Date.parse(started ?? submitted);
    const end = isFinished(state) ? Date.parse(finished ?? started ?? submitted) : now;
    const [from, to] = [placeOf(begin, span), placeOf(end, span)];
    if (to < 0 || from > 1) continue;
    const held = lane(job);
    held.pieces.push({ id, state, from: Math.max(0, from), to: Math.min(1, to), waits, count: 1 });
    if (waits) held.waits = true;
    else if (!isFinished(state)) held.running = true;
  }
  const dueCounts = new Map<string, number>();
  for (const { job, due } of upcoming) {
    const at = placeOf(Date.parse(due), span);
    if (at < 0 || at > 1) continue;
    const held = lane(job);
    const before = held.dues.at(-1);
    if (before && at - before.until < grain.due) {
      before.until = at;
      before.count++;
    } else held.dues.push({ at, until: at, due, count: 1 });
    const count = (dueCounts.get(job) ?? 0) + 1;
    dueCounts.set(job, count);
    if (count >= grain.each) held.known = at;
  }
  for (const held of lanes.values()) held.pieces = together(held.pieces, grain.piece);
  const rank = ({ running, waits }: Lane) => (running ? 0 : waits ? 1 : 2);
  const next = ({ dues }: Lane) => dues[0]?.at ?? Infinity;
  const ended = ({ pieces }: Lane) => Math.max(0, ...pieces.map(({ to }) => to));
  return [...lanes.values()].sort(
    (a, b) => rank(a) - rank(b) || (next(a) === next(b) ? ended(b) - ended(a) : next(a) - next(b)) || (a.job < b.job ? -1 : 1),
  );
}

const WEIGHT: Record<State, number> = {
  failed: 6,
  upforretry: 5,
  cancelled: 4,
  running: 3,
  successful: 2,
  skipped: 1,
  notstarted: 0,
};

/** Pieces from left to right; finished ones that would touch are merged. */
function together(pieces: Piece[], least: number): Piece[] {
  const joined: Piece[] = [];
  for (const piece of pieces.sort((a, b) => a.to - b.to)) {
    const before = joined.at(-1);
    const joins = before && isFinished(before.state) && isFinished(piece.state);
    if (!joins || piece.to - before.to >= least || Math.max(before.to - before.from, piece.to - piece.from) > 2 * least) {
      joined.push(piece);
      continue;
    }
    const worst = WEIGHT[before.state] > WEIGHT[piece.state] ? before : piece;
    joined[joined.length - 1] = {
      ...worst,
      from: Math.min(before.from, piece.from),
      to: before.to,
      count: before.count + 1,
    };
  }
  return joined;
}

/** Round times for the axis, as many as fit. */
export function hoursOf({ from, to }: Span, most: number): number[] {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * 60_000);
  const step = steps.find((one) => (to - from) / one <= most) ?? steps.at(-1)!;
  const all: number[] = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) all.push(time);
  return all;
}
