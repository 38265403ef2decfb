import { describe, expect, test } from "vitest";
import { axisOf, barsOf, place, roomy, ticksOf, type Bar, type Timed } from "./gantt";

const T0 = Date.parse("2026-11-21T03:00:00Z");
const at = (seconds: number) => new Date(T0 + seconds * 1000).toISOString();
const brief = (bars: Bar[]) =>
  bars.map(({ kind, from, to, attempt }) => `${kind} ${attempt} ${(from - T0) / 1000}-${to === null ? "" : (to - T0) / 1000}`);

function task(name: string, some: Partial<Timed> = {}, ...attempts: [from: number, to: number | null, retry?: number][]): Timed {
  return {
    name,
    state: "successful",
    waiting: null,
    finished: attempts.length && attempts.at(-1)![1] !== null ? at(attempts.at(-1)![1]!) : null,
    attempts: attempts.map(([from, to, retry], index) => ({
      attempt: index + 1,
      state: to === null ? "running" : index + 1 < attempts.length ? "failed" : "successful",
      started: at(from),
      finished: to === null ? null : at(to),
      retry_at: retry === undefined ? null : at(retry),
    })),
    ...some,
  };
}

const bars = (tasks: Timed[], dag: Record<string, string[]> = {}, rounds: number[] = []) =>
  Object.fromEntries([...barsOf(tasks, dag, T0, rounds.map((s) => T0 + s * 1000))].map(([name, made]) => [name, brief(made)]));

describe("bars", () => {
  test("are a task's attempts and the waits between them", () => {
    expect(bars([task("a", {}, [0, 2, 5], [5, 6, 8], [8, 9])])).toEqual({
      a: ["attempt 1 0-2", "retry 2 2-5", "attempt 2 5-6", "retry 3 6-8", "attempt 3 8-9"],
    });
  });

  test("a wait for a slot begins when all upstream tasks have ended", () => {
    const tasks = [task("a", {}, [0, 4]), task("b", {}, [0, 6]), task("c", {}, [9, 10])];
    expect(bars(tasks, { a: ["c"], b: ["c"], c: [] }).c).toEqual(["room 1 6-9", "attempt 1 9-10"]);
    expect(bars([task("a", {}, [3, 4])]).a).toEqual(["room 1 0-3", "attempt 1 3-4"]);
  });

  test("waits for a retry and for a slot are distinguished", () => {
    expect(bars([task("a", {}, [0, 2, 5], [7, 8])]).a).toEqual(["attempt 1 0-2", "retry 2 2-5", "room 2 5-7", "attempt 2 7-8"]);
  });

  test("an unfinished bar has no end", () => {
    expect(bars([task("a", { state: "running" }, [0, null])]).a).toEqual(["attempt 1 0-"]);
    expect(bars([task("a", { state: "upforretry", finished: at(2) }, [0, 2, 60])]).a).toEqual(["attempt 1 0-2", "retry 2 2-"]);
    const waits = [task("a", {}, [0, 4]), task("b", { state: "notstarted", waiting: "pool 'db': 1 of 1 in use" })];
    expect(bars(waits, { a: ["b"] }).b).toEqual(["room 1 4-"]);
    expect(bars([task("a", { state: "notstarted" })]).a).toEqual([]);
  });

  test("a manual retry is not a wait", () => {
    expect(bars([task("a", {}, [0, 2], [3600, 3601])], {}, [3599.99]).a).toEqual(["attempt 1 0-2", "attempt 2 3600-3601"]);
  });

  test("an end without an attempt is a point", () => {
    expect(bars([task("a", { state: "skipped", finished: at(3) })]).a).toEqual(["end 0 3-3"]);
    expect(bars([task("a", { state: "successful", finished: at(9) }, [0, 2])]).a).toEqual(["attempt 1 0-2", "end 0 9-9"]);
  });

  test("a task may be named like a property of Object", () => {
    expect(bars([task("__proto__", {}, [0, 1]), task("b", {}, [1, 2])], JSON.parse('{"__proto__":["b"]}')).b).toEqual(["attempt 1 1-2"]);
  });
});

const span = (from: number, to: number | null): Bar => ({
  kind: "attempt",
  from: T0 + from * 1000,
  to: to === null ? null : T0 + to * 1000,
  state: "successful",
  attempt: 1,
});
const s = (seconds: number) => T0 + seconds * 1000;

describe("the axis", () => {
  test("reaches from the beginning to the end", () => {
    const axis = axisOf([[span(1, 5)], [span(5, 9)]], s(0), s(10), null);
    expect([s(0), s(5), s(10), s(99)].map((time) => place(axis, time))).toEqual([0, 0.5, 1, 1]);
  });

  test("cuts out long pauses only", () => {
    expect(axisOf([[span(0, 10)], [span(65, 100)]], s(0), s(100), null).stretches).toHaveLength(1);
    const cut = axisOf([[span(0, 10)], [span(36_000, 36_010)]], s(0), s(36_010), null);
    expect(cut.stretches).toHaveLength(2);
    expect(place(cut, s(10))).toBeCloseTo(0.4875);
    expect(place(cut, s(20_000))).toBe(place(cut, s(36_000)));
    expect(place(cut, s(36_010))).toBeCloseTo(1);
  });

  test("has space while tasks run, and stays the same for a while", () => {
    const of = (now: number) => axisOf([[span(0, null)]], s(0), s(0), s(now));
    expect(of(1)).toEqual(of(4));
    expect(of(100)).toEqual(of(101));
    expect(place(of(100), s(100))).toBeLessThan(1);
    for (const elapsed of [0, 1, 4999, 5000, 86_400_000 * 40]) expect(roomy(elapsed)).toBeGreaterThan(elapsed);
  });

  test("exists without any bars", () => {
    const axis = axisOf([], s(0), s(0), null);
    expect(place(axis, s(0))).toBe(0);
    expect(ticksOf(axis, 500, 80).ticks.length).toBeLessThan(10);
  });
});

describe("the ticks of the axis", () => {
  test.each([0.004, 0.4, 3, 61, 500, 4000, 90_000, 4_000_000])("of %s s are apart and round", (seconds) => {
    const axis = axisOf([[span(0, seconds)]], s(0), s(seconds), null);
    const { ticks, step } = ticksOf(axis, 600, 80);
    expect(ticks.length).toBeGreaterThanOrEqual(2);
    expect(ticks.length).toBeLessThanOrEqual(9);
    for (const [index, { at, time }] of ticks.entries()) {
      expect((time - (step < 1000 ? T0 : 0)) % step).toBe(0);
      if (index) expect((at - ticks[index - 1]!.at) * 600).toBeGreaterThanOrEqual(72);
    }
  });
});
