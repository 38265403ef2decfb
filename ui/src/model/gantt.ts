/**
 * The tasks of an execution as bars on one time axis. Pure: the current time is an argument. Times
 * are milliseconds since 1970.
 *
 * Rule: an unfinished bar has `to` null and extends to now. The axis has space for the near future
 * and changes rarely, so that only growing bars render again.
 */

import { isFinished, type State } from "./states";

/** The part of a task that its bars need. */
export interface Timed {
  name: string;
  state: State;
  finished: string | null;
  waiting: unknown;
  attempts: { attempt: number; state: State; started: string; finished: string | null; retry_at?: string | null }[];
}

export interface Bar {
  /** Waiting for a slot, an attempt, waiting for the next attempt, or an end without attempt. */
  kind: "room" | "attempt" | "retry" | "end";
  from: number;
  /** Null if it is unfinished. */
  to: number | null;
  state: State;
  /** The attempt it belongs to or precedes; 0 if there is none. */
  attempt: number;
}

const MIN_WAIT = 20; // milliseconds; shorter waits are not shown

/**
 * The bars of each task. A task waits for a slot from the end of its last upstream task, from
 * `begun`, or from the last manual retry (`rounds`) before it, whichever is latest.
 */
export function barsOf(tasks: Timed[], dag: Record<string, string[]>, begun: number, rounds: number[]): Map<string, Bar[]> {
  const ends = new Map<string, number[]>();
  const upstream = new Map<string, string[]>(tasks.map(({ name }) => [name, []]));
  for (const task of tasks) {
    const all = task.attempts.flatMap(({ finished }) => (finished === null ? [] : [Date.parse(finished)]));
    if (task.finished !== null) all.push(Date.parse(task.finished));
    ends.set(task.name, all);
  }
  for (const [from, downstream] of Object.entries(dag)) for (const to of downstream) upstream.get(to)?.push(from);
  /** The earliest time at which a task, started at `at` or not yet, could have started. */
  const ready = (name: string, at: number) => {
    let since = Math.max(begun, ...rounds.filter((round) => round <= at));
    for (const other of upstream.get(name) ?? [])
      for (const end of ends.get(other) ?? []) if (end <= at && end > since) since = end;
    return since;
  };
  return new Map(tasks.map((task) => [task.name, bars(task, rounds, (at) => ready(task.name, at))]));
}

function bars(task: Timed, rounds: number[], ready: (at: number) => number): Bar[] {
  const made: Bar[] = [];
  let before: number | null = null;
  let due: number | null = null;
  for (const { attempt, state, started, finished, retry_at } of task.attempts) {
    const from = Date.parse(started);
    const again: boolean = before !== null && rounds.some((round) => round >= before! && round <= from);
    let since = ready(from);
    if (before !== null && !again) {
      const until = Math.min(from, due ?? from);
      if (until > before) made.push({ kind: "retry", from: before, to: until, state: "upforretry", attempt });
      since = until;
    }
    if (from - since > MIN_WAIT) made.push({ kind: "room", from: since, to: from, state: "notstarted", attempt });
    const to = finished === null ? null : Date.parse(finished);
    made.push({ kind: "attempt", from, to, state, attempt });
    before = to;
    due = retry_at ? Date.parse(retry_at) : null;
  }
  const next = task.attempts.length + 1;
  if (task.state === "upforretry" && before !== null) {
    made.push({ kind: "retry", from: before, to: null, state: "upforretry", attempt: next });
  } else if (task.state === "notstarted" && task.waiting !== null) {
    made.push({ kind: "room", from: ready(Infinity), to: null, state: "notstarted", attempt: next });
  } else if (isFinished(task.state) && task.finished !== null) {
    const at = Date.parse(task.finished);
    if (before === null || at > before) made.push({ kind: "end", from: at, to: at, state: task.state, attempt: 0 });
  }
  return made;
}

/** A shown period, and its share of the width, from 0 to 1. */
interface Stretch {
  from: number;
  to: number;
  left: number;
  right: number;
}

/** Shown periods side by side; the time between two of them is left out. */
export interface Axis {
  stretches: Stretch[];
  /** The share of the width per millisecond. */
  scale: number;
}

const CUT = 0.025; // of the width, for a cut
const IDLE = 60_000; // milliseconds; shorter pauses are never cut
const GROWS = 1.3;

/**
 * The axis of the bars. Pauses longer than all the rest are cut, such as between a failure in the
 * night and a retry in the morning. `now` is given for an unfinished execution.
 */
export function axisOf(rows: Iterable<Bar[]>, from: number, end: number, now: number | null): Axis {
  const spans: [number, number][] = [[from, from]];
  for (const row of rows) for (const bar of row) spans.push([bar.from, bar.to ?? now ?? bar.from]);
  spans.push([end, end]);
  spans.sort((a, b) => a[0] - b[0]);
  const busy: [number, number][] = [];
  for (const [start, stop] of spans) {
    const last = busy[busy.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], stop);
    else busy.push([start, stop]);
  }
  const worked = busy.reduce((sum, [start, stop]) => sum + stop - start, 0);
  const kept: [number, number][] = [];
  for (const [start, stop] of busy) {
    const last = kept[kept.length - 1];
    if (last && start - last[1] <= Math.max(IDLE, worked)) last[1] = stop;
    else kept.push([start, stop]);
  }
  const last = kept[kept.length - 1]!;
  if (now !== null) last[1] = last[0] + roomy(now - last[0]);
  const all = kept.reduce((sum, [start, stop]) => sum + stop - start, 0) || 1;
  const scale = (1 - CUT * (kept.length - 1)) / all;
  let left = 0;
  const stretches = kept.map(([start, stop]) => {
    const right = left + (stop - start) * scale;
    const stretch = { from: start, to: stop, left, right };
    left = right + CUT;
    return stretch;
  });
  return { stretches, scale };
}

/** A length above `elapsed` that changes rarely. */
export function roomy(elapsed: number): number {
  let room = 5000;
  while (room < elapsed * 1.02) room *= GROWS;
  return Math.round(room);
}

/** The position of a time on the axis, from 0 to 1; inside a cut, its end. */
export function place(axis: Axis, time: number): number {
  for (const { from, to, left } of axis.stretches) {
    if (time < from) return left;
    if (time <= to) return left + (time - from) * axis.scale;
  }
  return axis.stretches[axis.stretches.length - 1]!.right;
}

const STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((seconds) => seconds * 1000),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60_000),
  ...[1, 2, 3, 6, 12].map((hours) => hours * 3_600_000),
  ...[1, 2, 7, 14, 30, 90, 365].map((days) => days * 86_400_000),
];

export interface Tick {
  time: number;
  /** From 0 to 1. */
  at: number;
}

/**
 * The ticks of an axis of `width` pixels, at least `apart` pixels apart, and their distance in
 * milliseconds.
 */
export function ticksOf(axis: Axis, width: number, apart: number): { ticks: Tick[]; step: number } {
  const step = STEPS.find((one) => one * axis.scale * width >= apart) ?? STEPS[STEPS.length - 1]!;
  const ticks: Tick[] = [];
  const first = axis.stretches[0]!.from;
  for (const { from, to } of axis.stretches) {
    // Below a second, ticks count from the start, not by the time of day.
    const zero = step < 1000 ? first : 0;
    for (let time = zero + Math.ceil((from - zero) / step) * step; time <= to; time += step) {
      const at = place(axis, time);
      const last = ticks[ticks.length - 1];
      if (!last || (at - last.at) * width >= apart * 0.9) ticks.push({ time, at });
    }
  }
  return { ticks, step };
}
