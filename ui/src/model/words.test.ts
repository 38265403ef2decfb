import { expect, test } from "vitest";
import { inWords } from "./words";

test.each([
  ["* * * * *", "Every minute"],
  ["*/5 9-17 * * MON-FRI", "Every 5 minutes, between 09:00 and 17:59, Monday through Friday"],
  ["0 30 8 * * 1", "At 08:30, only on Monday"],
  ["CRON_TZ=Asia/Tokyo 30 2 * * *", "At 02:30"],
  ["5 4 1 * SUN", "At 04:05, on day 1 of the month, or on Sunday"],
  ["0 0 */2 * 1", "At 00:00, every 2 days in a month, only on Monday"],
  ["@daily", "At 00:00"],
  ["@every 1h30m10s", "Every 1 h 30 m 10 s"],
  ["no such thing", ""],
])("%s is %s", (schedule, words) => expect(inWords(schedule)).toBe(words));
