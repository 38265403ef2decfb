import { describe, expect, test } from "vitest";
import type { ItemDetail } from "../api/schema";
import { allowedItemActions, countOf, countsText, ItemRows, itemNamed, outcomeOf, segmentsOf, stateNamed, statesOf, yieldedText } from "./items";

function item(index: number, changes: Partial<ItemDetail> = {}): ItemDetail {
  return { index, state: "successful", attempts: 1, started: null, finished: null, error: null, result: null, result_bytes: 4, waiting: null, key: null, history: [], ...changes };
}

describe("counts", () => {
  test("are told in words, successful items first", () => {
    expect(countsText({ total: 30, successful: 29, failed: 1 })).toBe("29 of 30 items, 1 failed");
    expect(countsText({ total: 10_000, running: 4, upforretry: 1 })).toBe("0 of 10,000 items, 1 up for retry, 4 running");
    expect(countsText({ total: 1, successful: 1 })).toBe("1 of 1 item");
    expect(countsText({ total: 0 })).toBe("no items");
    expect([0, 1, 1000].map(yieldedText)).toEqual(["0 items yielded", "1 item yielded", "1,000 items yielded"]);
  });

  test("have the items that are not started as the rest", () => {
    expect(countOf({ total: 5, successful: 2, running: 1 }, "notstarted")).toBe(2);
    expect(countOf({ total: 5, notstarted: 3, successful: 2 }, "notstarted")).toBe(3);
  });

  test("are segments that fill the bar when all items have started", () => {
    expect(segmentsOf({ total: 4, successful: 1, running: 1 })).toEqual([
      { state: "successful", from: 0, share: 0.25 },
      { state: "running", from: 0.25, share: 0.25 },
    ]);
    const [done, failed] = segmentsOf({ total: 10_000, successful: 9999, failed: 1 });
    expect(failed!.share).toBeGreaterThan(0.03);
    expect(done!.share + failed!.share).toBeCloseTo(1);
    expect(segmentsOf({ total: 0 })).toEqual([]);
  });

  test("choose the states of the filter", () => {
    expect(statesOf({ total: 3, successful: 2, failed: 1 }, null)).toEqual(["failed", "successful"]);
    expect(statesOf({ total: 3, successful: 3 }, "failed")).toEqual(["failed", "successful"]);
  });
});

describe("an item", () => {
  test("shows the first line of its error or result", () => {
    expect(outcomeOf(item(0, { state: "failed", error: "ValueError: a\nb" }))).toBe("ValueError: a");
    expect(outcomeOf(item(0, { result: { a: 1 } }))).toBe('{"a":1}');
    expect(outcomeOf(item(0, { result: "one\ntwo" }))).toBe("one");
    expect(outcomeOf(item(0, { result_bytes: 9000 }))).toBe("large result");
    expect(outcomeOf(item(0, { state: "running" }))).toBe("");
  });

  test("can be cancelled and marked while its task runs, and retried afterwards", () => {
    expect(allowedItemActions("running", "running", "running")).toEqual(["cancel"]);
    expect(allowedItemActions("running", "running", "running", true)).toEqual(["cancel", "mark successful", "mark skipped"]);
    expect(allowedItemActions("running", "running", "notstarted")).toEqual(["cancel", "mark successful", "mark skipped"]);
    expect(allowedItemActions("running", "running", "failed")).toEqual(["mark successful", "mark skipped"]);
    expect(allowedItemActions("running", "failed", "failed")).toEqual([]);
    expect(allowedItemActions("failed", "failed", "failed")).toEqual(["retry"]);
  });

  test("and a state are read from a URL", () => {
    expect([itemNamed("12"), itemNamed("-1"), itemNamed("x"), itemNamed(null)]).toEqual([12, null, null, null]);
    expect([stateNamed("failed"), stateNamed("total"), stateNamed(null)]).toEqual(["failed", null, null]);
  });
});

test("outdated rows stay until they are loaded again", () => {
  const rows = new ItemRows();
  rows.take(2, [item(2), item(3)]);
  expect([rows.lacks(2, 4), rows.lacks(2, 5), rows.lacks(0, 4)]).toEqual([null, 4, 0]);
  rows.outdate();
  expect(rows.lacks(2, 4)).toBe(2);
  expect(rows.at(2)!.index).toBe(2);
  rows.take(2, [item(2, { attempts: 2 })]);
  expect([rows.lacks(2, 4), rows.at(2)!.attempts]).toEqual([3, 2]);
  rows.cut(3);
  expect([rows.at(3), rows.size]).toEqual([undefined, 1]);
});
