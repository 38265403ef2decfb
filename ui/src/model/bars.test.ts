import { describe, expect, test } from "vitest";
import { heightOf, middle, percent, recordOf, tookOf, type Run } from "./bars";
import type { State } from "./states";

const run = (state: State, seconds: number | null): Run => ({
  state,
  started: "2026-01-01T00:00:00Z",
  finished: seconds === null ? null : new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString(),
});

describe("executions as bars", () => {
  test("the record counts finished executions, and the typical duration successful ones", () => {
    const record = recordOf([run("successful", 2), run("successful", 4), run("failed", 9), run("running", null), run("cancelled", 1)]);
    expect(record).toEqual({ rate: 2 / 3, typical: 3000, longest: 9000 });
    expect(recordOf([run("running", null)])).toEqual({ rate: null, typical: null, longest: 0 });
  });

  test("bars of running executions grow with the clock, up to the maximum height", () => {
    const running = run("running", null);
    const began = Date.parse(running.started!);
    expect(tookOf(running, began + 500)).toBe(500);
    expect(heightOf(500, 2000)).toBe(0.5);
    expect(heightOf(9000, 2000)).toBe(1);
    expect(heightOf(null, 2000)).toBe(0);
  });

  test("the median of an even number is between the two middle values", () => {
    expect(middle([4, 1, 3, 2])).toBe(2.5);
    expect(middle([])).toBeNull();
  });

  test.each([
    [1, "100 %"],
    [0.9999, "99.9 %"],
    [0.992, "99.2 %"],
    [0.5, "50 %"],
    [0, "0 %"],
  ])("%d is %s", (part, words) => expect(percent(part)).toBe(words));
});
