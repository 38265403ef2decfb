import { describe, expect, test } from "vitest";
import { durationsOf, slowest, ticksOf } from "./durations";

describe("durations", () => {
  test("durations far above the middle half are outliers", () => {
    const spread = durationsOf([10, 11, 12, 12, 13, 14, 90])!;
    expect(spread.median).toBe(12);
    expect(spread.longest).toBe(90);
    expect(90).toBeGreaterThan(spread.fence);
    expect(14).toBeLessThan(spread.fence);
  });

  test("few durations have no outliers, and none have no summary", () => {
    expect(durationsOf([1, 1000])!.fence).toBe(Infinity);
    expect(durationsOf([])).toBeNull();
  });

  test.each([
    [950, [0, 200, 400, 600, 800]],
    [59_000, [0, 15_000, 30_000, 45_000]],
    [0, [0]],
    [40 * 86_400_000, [0, 1, 2, 3, 4, 5].map((n) => n * 8 * 86_400_000).filter((n) => n <= 40 * 86_400_000)],
  ])("an axis up to %d ms has round steps", (most, steps) => expect(ticksOf(most)).toEqual(steps));

  test("tasks are sorted slowest first", () => {
    const run = (seconds: number) => ({
      state: "successful" as const,
      started: "2026-01-01T00:00:00Z",
      finished: `2026-01-01T00:00:0${seconds}Z`,
    });
    expect(slowest([{ name: "a", runs: [run(1), run(3)] }, { name: "b", runs: [run(5)] }, { name: "c", runs: [] }])).toEqual([
      { name: "b", typical: 5000 },
      { name: "a", typical: 2000 },
    ]);
  });
});
