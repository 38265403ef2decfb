/**
 * What ran, runs, waits and comes next, a lane a job, on one axis of time. Pure.
 *
 * Rule: what would be drawn over one another is drawn as one, so that a lane holds no more
 * pieces than fit into it, however often its job runs.
 */

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
  /** How many it stands for: then what is said of it is said of the worst and newest of them. */
  count: number;
}

/** A due time, or some in a row. */
export interface Due {
  /** As parts of the axis. */
  at: number;
  until: number;
  due: string;
  count: number;
}

export interface Lane {
  job: string;
  pieces: Piece[];
  /** When it is due next. */
  dues: Due[];
  /** Where on the axis what is known of its due times ends, if there are more; else 1. */
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

/** The part of the axis a time stands at; below 0 and above 1 beside it. */
export function placeOf(time: number, { from, to }: Span): number {
  return (time - from) / (to - from);
}

/** How small pieces and due times are drawn, as parts of the axis; and how many due times of a job are told. */
export interface Grain {
  piece: number;
  due: number;
  each: number;
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
  const told = new Map<string, number>();
  for (const { job, due } of upcoming) {
    const at = placeOf(Date.parse(due), span);
    if (at < 0 || at > 1) continue;
    const held = lane(job);
    const before = held.dues.at(-1);
    if (before && at - before.until < grain.due) {
      before.until = at;
      before.count++;
    } else held.dues.push({ at, until: at, due, count: 1 });
    const count = (told.get(job) ?? 0) + 1;
    told.set(job, count);
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

/** Pieces from left to right, where the ended ones that would touch are one. */
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

/** Round times for the axis, from coarse to fine as many as fit, and what they say. */
export function hoursOf({ from, to }: Span, most: number): number[] {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * 60_000);
  const step = steps.find((one) => (to - from) / one <= most) ?? steps.at(-1)!;
  const all: number[] = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) all.push(time);
  return all;
}
