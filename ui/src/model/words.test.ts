import { expect, test } from "vitest";
import { zoneNamed } from "./cron";
import { inWords } from "./words";

// tests/browser/test_words.py compares descriptions with the server's due times. These tests are
// about their wording.
test.each([
  ["* * * * *", "Every minute"],
  ["*/5 9-17 * * MON-FRI", "Every 5 minutes from 09:00 to 17:59, on Monday to Friday"],
  ["0 30 8 * * 1", "At 08:30, on Monday"],
  ["CRON_TZ=Asia/Tokyo 30 2 * * *", "At 02:30"],
  ["@daily", "At 00:00"],
  ["@weekly", "At 00:00, on Sunday"],
  ["@yearly", "At 00:00, on day 1 of the month, in January"],
  ["@hourly", "Every hour"],
  ["15 * * * *", "Every hour at minute 15"],
  ["0 0-23 * * *", "Every hour from 00:00 to 23:00"],
  ["0 9-17 * * *", "Every hour from 09:00 to 17:00"],
  ["0 */2 * * *", "Every 2 hours"],
  ["30 1-23/2 * * *", "Every 2 hours from 01:30 to 23:30"],
  ["0 */5 * * *", "Every 5 hours from 00:00 to 20:00"],
  ["0 */36 * * *", "At 00:00"],
  ["*/45 * * * *", "At minutes 0 and 45 of every hour"],
  ["*/90 * * * *", "Every hour"],
  ["*/7 * * * *", "At every 7th minute from 0 to 56 of every hour"],
  ["5/15 * * * *", "Every 15 minutes from minute 5"],
  ["*/15 */2 * * *", "Every 15 minutes in every 2nd hour from 0 to 22"],
  ["0,30 9,14 * * *", "At 09:00, 09:30, 14:00 and 14:30"],
  ["0 9 1-7 * 1-5", "At 09:00, on days 1 to 7 of the month or on Monday to Friday"],
  ["0 9 */2 * 1", "At 09:00, on Monday, but only on every 2nd day from 1 to 31 of the month"],
  ["5 4 1 * SUN", "At 04:05, on day 1 of the month or on Sunday"],
  ["0 0 1-31 * 1", "At 00:00"],
  ["0 0 ? * 6,7", "At 00:00, on Saturday and Sunday"],
  ["0 0 * 2,4-6,12 *", "At 00:00, in February, April to June and December"],
  ["*/10 * * * * *", "Every 10 seconds"],
  ["* * 9 * * *", "Every second from 09:00 to 09:59"],
  ["0,20 5 * * * *", "At seconds 0 and 20 in minute 5 of every hour"],
  ["15 30 8 * * *", "At 08:30:15"],
  ["@every 1h30m10s", "Every 1 h 30 min 10 s"],
  ["@every 1500ms", "Every second"],
  ["@every 1.5h", "Every 1 h 30 min"],
  ["@every 36h", "Every 36 hours"],
  ["@every  60s", "Every minute"],
  ["0 0 L * *", "At 00:00, on the last day of the month"],
  ["0 0 l-2 * *", "At 00:00, on the 3rd to last day of the month"],
  ["0 9 LW * ?", "At 09:00, on the last weekday of the month"],
  ["0 9 1,15W * ?", "At 09:00, on day 1 and the weekday nearest to day 15 of the month"],
  ["0 9 ? * 5L", "At 09:00, on the last Friday of the month"],
  ["0 9 ? * MON#2", "At 09:00, on the 2nd Monday of the month"],
  ["0 9 L * 1,7#1", "At 09:00, on the last day of the month or on Monday and the 1st Sunday of the month"],
  ["@once", "Once"],
  ["1,3,4,8,11,19,28,33,47 * * * *", ""],
])("%s is %s", (schedule, words) => expect(inWords(schedule)).toBe(words));

test.each(["", "no such thing", "60 * * * *", "* * * *", "* * * * * * *", "59-0 * * * *", "*/0 * * * *", "L * * * *", "0 0 L-31 * *", "0 0 32W * *", "0 0 W * *", "0 0 * * L", "0 0 * * MON#6", "0 0 * * 8L", "@ONCE", "@every", "@every 0", "@every -1s", "@every 1", "@Daily", "@reboot", "constructor"])(
  "%s is no schedule that could be put in words",
  (schedule) => expect(inWords(schedule)).toBe(""),
);

test("a zone in the expression is the schedule's zone", () => {
  expect(zoneNamed("TZ=Asia/Tokyo @daily")).toBe("Asia/Tokyo");
  expect(zoneNamed("0 9 * * *")).toBeNull();
});
