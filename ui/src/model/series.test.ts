import { expect, test } from "vitest";
import { bytes, lineOf, roundUp } from "./series";

test("a line ends at the right edge, begins with its first value, and stays inside the box", () => {
  expect(lineOf([0, 5, 20], 3, 100, 10, 10)).toBe("M0 10L50 5L100 0");
  expect(lineOf([5, 20], 5, 100, 10, 10)).toBe("M75 5L100 0");
  expect(lineOf([], 3, 100, 10, 10)).toBe("");
  expect(lineOf([0], 1, 100, 10, 0)).toBe("M100 10");
});

test.each([
  [0, 0],
  [0.0031, 0.005],
  [1, 1],
  [7, 10],
  [11, 20],
])("%d rounds up to %d", (value, round) => expect(roundUp(value)).toBeCloseTo(round, 12));

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [4_404_019, "4.2 MiB"],
  [2 ** 40 * 5000, "5000 TiB"],
])("%d bytes are %s", (count, words) => expect(bytes(count)).toBe(words));
