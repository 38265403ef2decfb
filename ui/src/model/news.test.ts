import { expect, test } from "vitest";
import { newest } from "./news";

test("of what the server noticed, the newest of a day is told, and how many more there are", () => {
  const notices = ["2026-01-01T00:00:00Z", "2026-01-02T11:00:00Z", "2026-01-02T12:00:00Z"].map((at) => ({ at, text: at }));
  const at = (time: string) => newest(notices, Date.parse(time));
  expect(at("2026-01-02T13:00:00Z")).toEqual({ notice: notices[2], others: 1 });
  expect(at("2026-01-03T11:30:00Z")).toEqual({ notice: notices[2], others: 0 });
  expect(at("2026-01-03T12:00:00Z")).toBeNull();
  expect(newest([], 0)).toBeNull();
});
