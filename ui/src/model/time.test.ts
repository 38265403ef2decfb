import { describe, expect, test } from "vitest";
import { countdown, dayOf, elapsed, instant, local, moment, span, stamp } from "./time";

describe("times", () => {
  test("are ordered like their instants, for any number of digits", () => {
    const times = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"];
    expect([...times].reverse().map(instant).sort()).toEqual(times.map(instant));
    expect(instant("2026-01-01T00:00:00+00:00")).toBe(instant("2026-01-01T00:00:00.000Z"));
  });

  test.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [1000, "1.0 s"],
    [59_949, "59.9 s"],
    [59_960, "1 min"],
    [185_000, "3 min 5 s"],
    [3_600_000, "1 h"],
    [7_800_000, "2 h 10 min"],
    [360_000_000, "4 d 4 h"],
  ])("%d ms is %s", (milliseconds, words) => expect(span(milliseconds)).toBe(words));

  test("elapsed times are in whole seconds", () => {
    expect([-5, 0, 999, 59_999, 185_900].map(elapsed)).toEqual(["0 s", "0 s", "0 s", "59 s", "3 min 5 s"]);
  });

  test("the precision of a time on an axis follows its step", () => {
    const time = Date.parse("2026-11-21T03:04:05Z");
    expect([1000, 60_000, 86_400_000].map((step) => moment(time, step, "UTC", "en"))).toEqual(["03:04:05", "03:04", "Nov 21"]);
  });

  test("today's times have no day, and this year's no year", () => {
    const now = new Date(2026, 5, 15, 12);
    expect(local(new Date(2026, 5, 15, 9, 5, 7).toISOString(), now, undefined, "en-GB")).toBe("09:05:07");
    expect(local(new Date(2026, 1, 3, 9, 5, 7).toISOString(), now, undefined, "en-GB")).toBe("3 Feb, 09:05:07");
    expect(local(new Date(2025, 1, 3, 9, 5, 7).toISOString(), now, undefined, "en-GB")).toBe("3 Feb 2025, 09:05:07");
    expect(local("garbage", now)).toBe("garbage");
  });

  test("a time is shown in the requested zone, with its day there", () => {
    const now = new Date("2026-03-29T00:30:00Z");
    expect(local("2026-03-29T01:30:00Z", now, "Europe/Berlin", "en-GB")).toBe("03:30:00");
    expect(local("2026-03-29T01:30:00Z", now, "America/New_York", "en-GB")).toBe("21:30:00");
    expect(dayOf(Date.parse("2026-12-31T23:30:00Z"), "Europe/Berlin")).toBe("2027-01-01");
  });

  test("the time of a line has milliseconds, in the requested zone", () => {
    expect(stamp("2026-03-29T01:30:05.042917Z", "Europe/Berlin", "en-GB")).toBe("03:30:05.042");
    expect(stamp("2026-03-29T01:30:05Z", "UTC", "en-GB")).toBe("01:30:05.000");
  });

  test.each([
    [-1, "now"],
    [1, "in 1 s"],
    [59_001, "in 1 min"],
    [3_660_000, "in 1 h 1 min"],
  ])("%d ms ahead is %s", (ahead, words) => expect(countdown(ahead)).toBe(words));
});
