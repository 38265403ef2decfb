import { expect, test } from "vitest";
import { nextLook } from "./waiting";

const at = Date.parse("2026-01-01T00:00:00Z");
const waiting = { why: "no file", again: "2026-01-01T00:00:30Z", every: 30 };

test("the next look is the one that was told, until it has passed", () => {
  expect(nextLook(waiting, at)).toBe(at + 30_000);
  expect(nextLook(waiting, at + 30_000)).toBe(at + 30_000);
});

test("later looks follow at the same interval", () => {
  expect(nextLook(waiting, at + 30_001)).toBe(at + 60_000);
  expect(nextLook(waiting, at + 95_000)).toBe(at + 120_000);
});

test("without an interval the time stays", () => {
  expect(nextLook({ ...waiting, every: 0 }, at + 95_000)).toBe(at + 30_000);
});
