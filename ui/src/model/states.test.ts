import { expect, test } from "vitest";
import { tally } from "./states";

test("a tally counts each state", () => {
  expect(tally(["failed", "successful", "successful"])).toBe("2 successful, 1 failed");
  expect(tally([])).toBe("none yet");
});
