import { expect, test } from "vitest";
import { latestNotice } from "./notices";

test("the latestNotice notice of the last day is returned, with the number of others", () => {
  const notices = ["2026-01-01T00:00:00Z", "2026-01-02T11:00:00Z", "2026-01-02T12:00:00Z"].map((at) => ({ at, text: at }));
  const at = (time: string) => latestNotice(notices, Date.parse(time));
  expect(at("2026-01-02T13:00:00Z")).toEqual({ notice: notices[2], others: 1 });
  expect(at("2026-01-03T11:30:00Z")).toEqual({ notice: notices[2], others: 0 });
  expect(at("2026-01-03T12:00:00Z")).toBeNull();
  expect(latestNotice([], 0)).toBeNull();
});
