import { expect, test } from "vitest";
import { headsOf } from "./columns";

const at = (...times: string[]) => headsOf(times.map((time) => `2026-11-${time}:00Z`), "UTC", "en-GB");

test("columns show the day when it changes, and some hours", () => {
  const hours = Array.from({ length: 14 }, (_, n) => `${n < 8 ? 20 : 21}T${String(10 + n).padStart(2, "0")}:05`);
  expect(at(...hours)).toEqual([
    { column: 0, text: "20 Nov" },
    { column: 6, text: "16:05" },
    { column: 10, text: "21 Nov" },
  ]);
});

test("labels that would touch are left out, and no times have no labels", () => {
  expect(at("01T00:00", "02T00:00", "03T00:00", "04T00:00", "05T00:00").map(({ column }) => column)).toEqual([0, 4]);
  expect(at()).toEqual([]);
});
