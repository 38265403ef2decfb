import { describe, expect, test } from "vitest";
import { lookOf, weightOf, WEEKS, yearTo, type DayCounts } from "./calendar";

const day = (day: string, states: DayCounts["states"], missed = 0): DayCounts => ({ day, states, missed, skipped: 0, seconds: 0 });

describe("the calendar", () => {
  test("has whole weeks from Monday, and ends today", () => {
    const { cells, months } = yearTo("2026-11-21", [day("2026-11-20", { failed: 1 })]);
    expect(cells.at(-1)).toMatchObject({ day: "2026-11-21", week: WEEKS - 1, weekday: 5, counts: null });
    expect(cells[0]).toMatchObject({ week: 0, weekday: 0, day: "2025-11-17" });
    expect(cells.at(-2)!.counts!.states).toEqual({ failed: 1 });
    expect(new Set(cells.map(({ day }) => day)).size).toBe(cells.length);
    expect(months.map(({ month }) => month)).toContain("2026-03");
  });

  test("includes 29 February", () => {
    expect(yearTo("2028-03-01", []).cells.map(({ day }) => day)).toContain("2028-02-29");
  });

  test.each([
    [null, "none"],
    [day("x", {}), "none"],
    [day("x", { successful: 3 }), "good"],
    [day("x", { successful: 3, failed: 1 }), "mixed"],
    [day("x", { successful: 1, failed: 1 }), "bad"],
    [day("x", { successful: 1 }, 5), "missed"],
  ] as const)("%j looks %s", (counts, look) => expect(lookOf(counts)).toBe(look));

  test("the weight of a day follows its executions", () => {
    expect([0, 1, 25, 50, 100].map((count) => weightOf(day("x", { successful: count }), 100))).toEqual([0, 1, 2, 3, 4]);
  });
});
