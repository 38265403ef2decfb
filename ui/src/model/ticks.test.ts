import { describe, expect, test } from "vitest";
import { inRuns, OUTCOME_SIGN, OUTCOMES, outcomeOf, tallyOf, type Outcome, type Tick } from "./ticks";

describe("due times", () => {
  const tick = (outcome: Outcome, count = 1): Tick => ({
    due: "2026-01-01T00:00:00Z",
    outcome,
    at: "2026-01-01T00:00:00Z",
    reason: "",
    count,
    until: null,
    execution: null,
    into: null,
  });

  test("a run of missed due times has a count", () => {
    expect(outcomeOf(tick("missed"))).toBe("missed");
    expect(outcomeOf(tick("missed", 1440))).toBe("missed 1,440 times");
  });

  test("consecutive due times that did not fire for the same reason are merged", () => {
    const at = (second: number, outcome: Outcome, reason = ""): Tick => ({
      ...tick(outcome),
      due: `2026-01-01T00:00:0${second}Z`,
      reason,
      execution: outcome === "fired" ? `id-${second}` : null,
    });
    const runs = inRuns([
      { ...at(6, "skipped", "busy"), count: 3, until: "2026-01-01T00:00:08Z" },
      at(5, "skipped", "busy"),
      at(4, "skipped", "full"),
      at(3, "skipped", "busy"),
      at(2, "skipped", "busy"),
      at(1, "fired"),
      at(0, "fired"),
    ]);
    expect(runs.map(({ due, until, count }) => [due.slice(18, 19), until?.slice(18, 19), count])).toEqual([
      ["5", "8", 4],
      ["4", undefined, 1],
      ["2", "3", 2],
      ["1", undefined, 1],
      ["0", undefined, 1],
    ]);
  });

  test("the tally counts due times, not rows", () => {
    expect(tallyOf([tick("fired"), tick("missed", 40), tick("fired"), tick("missed")])).toBe("2 fired, 41 missed");
  });

  test("each outcome has its own sign", () => {
    expect(new Set(OUTCOMES.map((outcome) => OUTCOME_SIGN[outcome])).size).toBe(OUTCOMES.length);
  });
});
