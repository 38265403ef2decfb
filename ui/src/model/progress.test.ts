import { describe, expect, test } from "vitest";
import { amountTicks, costTexts, doneText, measuresOf, shareOf, sizeTicks } from "./progress";

const cost = { processor_seconds: 1.25, peak_memory: 64 * 1024 * 1024, log_bytes: 2048, counts: { rows: 1200 } };
const none = { processor_seconds: 0, peak_memory: 0, log_bytes: 0, counts: {} };

describe("progress", () => {
  test("is told with its share, which is 100 % at most", () => {
    expect(doneText({ done: 450, total: 1200, text: "" })).toBe("450 of 1,200, 37 %");
    expect(doneText({ done: 5, total: 4, text: "" })).toBe("5 of 4, 100 %");
    expect(shareOf({ done: 5, total: 4, text: "" })).toBe(1);
  });

  test("without a total, or with one of 0, has no share", () => {
    expect(doneText({ done: 7, total: null, text: "" })).toBe("7 done");
    expect(shareOf({ done: 7, total: null, text: "" })).toBeNull();
    expect(doneText({ done: 0, total: 0, text: "" })).toBe("0 of 0");
  });
});

describe("costs", () => {
  test("are told without zeros", () => {
    expect(costTexts(cost)).toEqual([
      { name: "Processor time", amount: "1.3 s" },
      { name: "Peak memory", amount: "64.0 MiB" },
      { name: "Log", amount: "2.0 KiB" },
      { name: "rows", amount: "1,200" },
    ]);
    expect(costTexts(none)).toEqual([]);
  });

  test("have the measures that any of them has", () => {
    expect(measuresOf([none, null, undefined])).toEqual([]);
    const names = measuresOf([none, { ...none, counts: { files: 1 } }, cost]).map(({ name }) => name);
    expect(names).toEqual(["Processor time", "Peak memory", "Log", "files", "rows"]);
  });

  test.each([
    [0, [0]],
    [1200, [0, 1000]],
    [3, [0, 2]],
    [0.35, [0, 0.2]],
  ])("an axis up to %d has round amounts", (most, ticks) => {
    expect(amountTicks(most)).toEqual(ticks);
  });

  test("an axis of sizes has round amounts of its unit", () => {
    expect(sizeTicks(70 * 1024 * 1024)).toEqual([0, 50 * 1024 * 1024]);
    expect(sizeTicks(0)).toEqual([0]);
  });
});
