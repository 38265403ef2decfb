/**
 * A schedule in words: "Every 5 minutes from 09:00 to 17:59, on Monday to Friday".
 *
 * Rule: words come from the values of the fields, not from their notation, so that they are exact: a
 * step of 45 minutes is "at minutes 0 and 45". They are shown beside the expression, and left out if
 * they would be too long.
 */

import { meaning, type Cron } from "./cron";

/** Empty if there is no short description, or the schedule is invalid. */
export function inWords(schedule: string): string {
  const found = meaning(schedule);
  if (!found) return "";
  if ("once" in found) return "Once";
  const words = "every" in found ? `every ${spanOf(found.every)}` : sentence(found);
  return words ? words[0]!.toUpperCase() + words.slice(1) : "";
}

/** "second", "2 hours", "1 h 30 min 10 s". */
function spanOf(seconds: bigint): string {
  const units = [
    [seconds / 3600n, "h", "hour"],
    [(seconds / 60n) % 60n, "min", "minute"],
    [seconds % 60n, "s", "second"],
  ] as const;
  const parts = units.filter(([count]) => count > 0n);
  const [count, , name] = parts[0]!;
  if (parts.length > 1) return parts.map(([count, unit]) => `${count} ${unit}`).join(" ");
  return count === 1n ? name : `${count} ${name}s`;
}

function sentence(cron: Cron): string {
  const parts = [timeOf(cron), daysOf(cron), monthsOf(cron.months)];
  return parts.includes(null) ? "" : parts.filter(Boolean).join(", ");
}

// -- of the day --------------------------------------------------------------------

const MAX_TIMES = 4; // the maximum number of listed times

/** Null if the description is too long. */
function timeOf(cron: Cron): string | null {
  const { seconds, minutes, hours } = cron;
  if (seconds.length > 1) return joined(secondsOf(cron), hoursOf(cron));
  const second = seconds[0]!;
  if (minutes.length * hours.length <= MAX_TIMES)
    return `at ${listed(hours.flatMap((hour) => minutes.map((minute) => clock(hour, minute, second))))}`;
  if (minutes.length === 1) return hourly(cron, minutes[0]!, second);
  return joined(minutesOf(cron, second), hoursOf(cron));
}

/** One minute in many hours. */
function hourly({ hours, wildcard }: Cron, minute: number, second: number): string | null {
  if (hours.length === 24 && wildcard) {
    if (second) return `every hour at minute ${minute}, second ${second}`;
    return minute ? `every hour at minute ${minute}` : "every hour";
  }
  const step = stepOf(hours);
  if (step && (step > 1 || hours.length > 2)) {
    const every = step === 1 ? "every hour" : `every ${step} hours`;
    if (step > 1 && whole(hours, step, 24) && hours[0] === 0 && !minute && !second) return every;
    return `${every} from ${clock(hours[0]!, minute, second)} to ${clock(hours.at(-1)!, minute, second)}`;
  }
  const these = chosen(hours, "hour");
  if (these === null) return null;
  return `${second ? `at second ${second} of minute ${minute}` : `at minute ${minute}`} of ${these}`;
}

/** Many minutes; the hours follow. */
function minutesOf({ minutes, hours, wildcard }: Cron, second: number): string | null {
  const step = stepOf(minutes);
  const at = second ? ` at second ${second}` : "";
  if (step && whole(minutes, step, 60)) {
    const begins = minutes[0] ? ` from minute ${minutes[0]}` : "";
    return `${step === 1 ? "every minute" : `every ${step} minutes${begins}`}${at}`;
  }
  const these = chosen(minutes, "minute");
  if (these === null) return null;
  const allHours = hours.length === 24 && wildcard ? " of every hour" : "";
  return `${second ? `at second ${second} of ${these}` : `at ${these}`}${allHours}`;
}

/** Many seconds and their minutes; the hours follow. */
function secondsOf({ seconds, minutes, hours, wildcard }: Cron): string | null {
  const step = stepOf(seconds);
  let words: string | null;
  if (step && whole(seconds, step, 60)) {
    const begins = seconds[0] ? ` from second ${seconds[0]}` : "";
    words = step === 1 ? "every second" : `every ${step} seconds${begins}`;
    if (minutes.length === 60) return words;
  } else {
    words = prefixed("at ", chosen(seconds, "second"));
    if (minutes.length === 60) return joined(words, " of every minute");
  }
  const allHours = hours.length === 24 && wildcard ? " of every hour" : "";
  return joined(words, prefixed(" in ", chosen(minutes, "minute")), allHours);
}

/** The hours, if there are many due times in each; empty for all hours. */
function hoursOf({ hours, wildcard }: Cron): string | null {
  if (hours.length === 24 && wildcard) return "";
  const runs = runsOf(hours);
  if (runs.length <= 3) return ` ${listed(runs.map(([first, last]) => `from ${clock(first, 0, 0)} to ${clock(last, 59, 0)}`))}`;
  return prefixed(" in ", chosen(hours, "hour"));
}

function clock(hour: number, minute: number, second: number): string {
  return [hour, minute, ...(second ? [second] : [])].map((part) => String(part).padStart(2, "0")).join(":");
}

// -- of the year -------------------------------------------------------------------

const WEEK = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const YEAR = ["", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/** Empty for every day; null if the description is too long. */
function daysOf({ monthDays, weekDays, places, nths, bothDays }: Cron): string | null {
  const [anyDate, anyWeekDay] = [monthDays.length === 31, weekDays.length === 7];
  if (bothDays ? anyDate && anyWeekDay : anyDate || anyWeekDay) return "";
  // A week starts on Monday.
  const every = weekDays.length ? [named(weekDays.map((day) => day || 7).sort((a, b) => a - b), WEEK)] : [];
  const week = `on ${listed([...every, ...nths.map(({ day, nth: number }) => `the ${placed(number)} ${WEEK[day]} of the month`)])}`;
  if (anyDate) return week;
  const numbered = monthDays.length ? [chosen(monthDays, "day")] : [];
  if (numbered.includes(null)) return null;
  const dates = `on ${listed([...(numbered as string[]), ...places.map(placeOf)])} of the month`;
  if (anyWeekDay) return dates;
  return bothDays ? `${week}, but only ${dates}` : `${dates} or ${week}`;
}

function placeOf({ before, nearest }: Cron["places"][number]): string {
  if (nearest) return `the weekday nearest to day ${nearest}`;
  if (nearest === 0) return "the last weekday";
  return before ? `the ${placed(before + 1)} to last day` : "the last day";
}

/** "2nd"; 0 is "last". */
const placed = (number: number) => (number ? nth(number) : "last");

function monthsOf(months: number[]): string {
  return months.length === 12 ? "" : `in ${named(months, YEAR)}`;
}

// -- lists -------------------------------------------------------------------------

const MAX_VALUES = 6; // the maximum number of listed values and ranges

/** "minute 5", "minutes 0, 10 and 20 to 25", "every 7th minute from 0 to 56"; null for more than that. */
function chosen(values: number[], noun: string): string | null {
  if (values.length === 1) return `${noun} ${values[0]}`;
  const parts = partsOf(values, String);
  const step = stepOf(values);
  if (step && step > 1 && values.length > 4) return `every ${nth(step)} ${noun} from ${values[0]} to ${values.at(-1)}`;
  return parts.length <= MAX_VALUES ? `${noun}s ${listed(parts)}` : null;
}

const named = (values: number[], names: string[]) => listed(partsOf(values, (value) => names[value]!));

/** Each value; three or more consecutive ones as "a to b". */
function partsOf(values: number[], name: (value: number) => string): string[] {
  return runsOf(values).flatMap(([first, last]) => {
    if (last - first >= 2) return [`${name(first)} to ${name(last)}`];
    return first === last ? [name(first)] : [name(first), name(last)];
  });
}

/** Runs of consecutive values, as first and last. */
function runsOf(values: number[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const value of values) {
    const last = runs.at(-1);
    if (last && last[1] === value - 1) last[1] = value;
    else runs.push([value, value]);
  }
  return runs;
}

/** The constant distance between values, else 0. */
function stepOf(values: number[]): number {
  const step = values[1]! - values[0]!;
  return values.every((value, index) => index === 0 || value - values[index - 1]! === step) ? step : 0;
}

/** Whether values a step apart continue evenly into the next cycle of `size`. */
const whole = (values: number[], step: number, size: number) => values.length * step === size;

const nth = (number: number) => `${number}${["th", "st", "nd", "rd"][number % 100 > 10 && number % 100 < 20 ? 0 : number % 10] ?? "th"}`;

/** "a", "a and b", "a, b and c". */
function listed(parts: string[]): string {
  return parts.length === 1 ? parts[0]! : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

const joined = (...parts: (string | null)[]): string | null => (parts.includes(null) ? null : parts.join(""));
const prefixed = (before: string, text: string | null) => joined(before, text);
