import { describe, expect, test } from "vitest";
import type { Execution } from "./live";
import { hoursOf, lanesOf, spanAround } from "./lanes";
import type { State } from "./states";

const noon = Date.parse("2026-01-01T12:00:00Z");
const span = spanAround(noon, 600_000, 600_000);
const grain = { piece: 0.01, due: 0.01, each: 3 };
const at = (minutes: number) => new Date(noon + minutes * 60_000).toISOString();

const one = (job: string, state: State, started: number | null, finished: number | null, submitted = started ?? 0): Execution => ({
  id: `${job} ${submitted}`,
  job,
  state,
  submitted: at(submitted),
  modifiedTimestamp: at(0),
  version: 1,
  started: started === null ? null : at(started),
  finished: finished === null ? null : at(finished),
});

describe("the axis of now", () => {
  test("lanes are ordered: running, waiting, due next", () => {
    const lanes = lanesOf(
      [one("ended", "failed", -4, -2), one("waits", "notstarted", null, null, -1), one("runs", "running", -5, null)],
      [{ job: "comes", due: at(5) }, { job: "later", due: at(9) }, { job: "too late", due: at(11) }],
      noon,
      span,
      grain,
    );
    expect(lanes.map(({ job }) => job)).toEqual(["runs", "waits", "comes", "later", "ended"]);
    expect(lanes[0]!.pieces[0]).toMatchObject({ from: 0.25, to: 0.5, waits: false });
    expect(lanes[1]!.pieces[0]).toMatchObject({ from: 0.45, to: 0.5, waits: true });
    expect(lanes[2]!.dues).toEqual([{ at: 0.75, until: 0.75, due: at(5), count: 1 }]);
  });

  test("executions that began before the axis are cut, and those that ended before it are left out", () => {
    const lanes = lanesOf([one("long", "running", -100, null), one("old", "failed", -90, -80)], [], noon, span, grain);
    expect(lanes.map(({ job }) => job)).toEqual(["long"]);
    expect(lanes[0]!.pieces[0]!.from).toBe(0);
  });

  test("overlapping pieces are merged and show the worst state", () => {
    const often = Array.from({ length: 30 }, (_, n) => one("often", n === 12 ? "failed" : "successful", -9 + n / 100, -9 + n / 100));
    const [lane] = lanesOf([...often, one("often", "running", -1, null)], [], noon, span, { ...grain, piece: 0.00975 });
    expect(lane!.pieces.map(({ state, count }) => [state, count])).toEqual([
      ["failed", 20],
      ["successful", 10],
      ["running", 1],
    ]);
    expect(lane!.pieces[0]!.id).toBe(often[12]!.id);
  });

  test("consecutive due times are one band, with the end of the known ones", () => {
    const upcoming = [1, 1.1, 1.2].map((minutes) => ({ job: "often", due: at(minutes) }));
    const [lane] = lanesOf([], [...upcoming, { job: "seldom", due: at(9) }], noon, span, grain);
    expect(lane!.dues).toEqual([{ at: 0.55, until: 0.56, due: at(1), count: 3 }]);
    expect(lane!.known).toBeCloseTo(0.56);
    expect(lanesOf([], upcoming.slice(1), noon, span, grain)[0]!.known).toBe(1);
  });

  test("the times on the axis are round", () => {
    const hours = hoursOf(span, 8).map((time) => new Date(time).toISOString().slice(11, 16));
    expect(hours).toEqual(["11:50", "11:55", "12:00", "12:05", "12:10"]);
  });
});
