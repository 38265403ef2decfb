/**
 * Parses a schedule into the values of its fields, as the server does.
 *
 * Rule: it follows goflow/core/schedule.py, with seconds first. Invalid or unsupported schedules are
 * null. A test compares it with the server's due times.
 */

/** Local times: all combinations of the values of the fields. */
export interface Cron {
  seconds: number[];
  minutes: number[];
  hours: number[];
  monthDays: number[];
  months: number[];
  /** 0 is Sunday. */
  weekDays: number[];
  /** Days by their place in the month: so many days before the last, or the weekday nearest to a day (0: the last weekday). */
  places: { before?: number; nearest?: number }[];
  /** Days of the week with their number in the month; 0 is the last. */
  nths: { day: number; nth: number }[];
  /** Whether a day must match both `monthDays` and `weekDays`, not only one of them. */
  bothDays: boolean;
  /** Whether minute or hour is a wildcard: then a repeated local time is due twice. */
  wildcard: boolean;
}

/** A schedule with a fixed interval in seconds. */
export interface Every {
  every: bigint;
}

/** A schedule that is due only once. */
export interface Once {
  once: true;
}

interface Field {
  low: number;
  high: number;
  /** The last value of `*` and `a/n`. */
  last: number;
  names?: string[];
}

const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEK_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: Field[] = [
  { low: 0, high: 59, last: 59 },
  { low: 0, high: 59, last: 59 },
  { low: 0, high: 23, last: 23 },
  { low: 1, high: 31, last: 31 },
  { low: 1, high: 12, last: 12, names: MONTHS },
  { low: 0, high: 7, last: 6, names: WEEK_DAYS },
];

const DESCRIPTORS: Record<string, string> = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
};

const PREFIX = /^[ \t]*(?:CRON_)?TZ=([^ \t]*)/;

/** The time zone in a schedule's text; null if there is none. */
export function zoneNamed(schedule: string): string | null {
  return PREFIX.exec(schedule)?.[1] ?? null;
}

export function meaning(schedule: string): Cron | Every | Once | null {
  const text = schedule.replace(PREFIX, "").replace(/^[ \t]+|[ \t]+$/g, "");
  const every = /^@every(?:[ \t]+(.*))?$/.exec(text);
  if (every) return interval(every[1] ?? "");
  if (text === "@once") return { once: true };
  const fields = (Object.hasOwn(DESCRIPTORS, text) ? DESCRIPTORS[text]! : text).split(/[ \t]+/);
  if (fields.length === 5) fields.unshift("0");
  if (fields.length !== 6) return null;
  for (const day of [3, 5]) if (fields[day] === "?") fields[day] = "*";
  const inMonth = placesOf(fields[3]!);
  const inWeeks = nthsOf(fields[5]!);
  if (!inMonth || !inWeeks) return null;
  const numbers = fields.map((field, index) => (index === 3 ? inMonth.rest : index === 5 ? inWeeks.rest : field));
  const read = numbers.map((field, index) => (field ? valuesOf(field, FIELDS[index]!) : []));
  if (read.includes(null)) return null;
  const [seconds, minutes, hours, monthDays, months, weekDays] = read as number[][];
  const [, minute, hour, monthDay, , weekDay] = fields.map((field) => field.startsWith("*"));
  return {
    seconds: seconds!,
    minutes: minutes!,
    hours: hours!,
    monthDays: monthDays!,
    months: months!,
    weekDays: [...new Set(weekDays!.map((day) => day % 7))].sort((a, b) => a - b),
    places: inMonth.places,
    nths: inWeeks.nths,
    bothDays: monthDay! || weekDay!,
    wildcard: minute! || hour!,
  };
}

/** Splits days of the month into those by place (`L`, `L-2`, `LW`, `15W`) and the rest; null if one is invalid. */
function placesOf(text: string): { places: Cron["places"]; rest: string } | null {
  const places: Cron["places"] = [];
  const rest: string[] = [];
  for (const item of text.split(",")) {
    const [last, before] = /^L(?:-([0-9]+))?$/i.exec(item) ?? [];
    const [near, day] = /^([0-9]+|L)W$/i.exec(item) ?? [];
    const nearest = day?.toUpperCase() === "L" ? 0 : valueOf(day ?? "1", FIELDS[3]!);
    if (Number(before ?? 0) > 30 || Number.isNaN(nearest)) return null;
    if (last) places.push({ before: Number(before ?? 0) });
    else if (near) places.push({ nearest });
    else rest.push(item);
  }
  return { places, rest: rest.join(",") };
}

/** Splits days of the week into those by place (`5L`, `MON#2`) and the rest; null if one is invalid. */
function nthsOf(text: string): { nths: Cron["nths"]; rest: string } | null {
  const nths: Cron["nths"] = [];
  const rest: string[] = [];
  for (const item of text.split(",")) {
    const [found, day, nth] = /^([0-9]+|[A-Za-z]{3})(?:L|#([1-5]))$/i.exec(item) ?? [];
    if (!found) {
      rest.push(item);
      continue;
    }
    const value = valueOf(day!, FIELDS[5]!);
    if (Number.isNaN(value)) return null;
    nths.push({ day: value % 7, nth: Number(nth ?? 0) });
  }
  return { nths, rest: rest.join(",") };
}

/** The values of a field, sorted; null if it is invalid. */
function valuesOf(text: string, field: Field): number[] | null {
  const values = new Set<number>();
  for (const item of text.split(",")) {
    const [found, from, to, by] = /^(?:\*|([0-9]+|[A-Za-z]+)(?:-([0-9]+|[A-Za-z]+))?)(?:\/([0-9]+))?$/.exec(item) ?? [];
    if (found === undefined) return null;
    const first = from === undefined ? field.low : valueOf(from, field);
    const end = to === undefined ? null : valueOf(to, field);
    const last = end ?? (from === undefined || by !== undefined ? Math.max(first, field.last) : first);
    const step = Number(by ?? 1);
    if (!(first <= last) || step === 0) return null;
    for (let value = first; value <= last; value += step) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

/** A number or a name as a value; NaN if it is invalid. */
function valueOf(text: string, { low, high, names = [] }: Field): number {
  const named = names.indexOf(text.toUpperCase());
  const value = named >= 0 ? low + named : Number(text);
  return low <= value && value <= high ? value : Number.NaN;
}

const UNITS: Record<string, bigint> = {
  ns: 1n,
  us: 1000n,
  "\u00b5s": 1000n,
  "\u03bcs": 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

/** A duration in Go's notation, in whole seconds: at least one, rounded down. */
function interval(duration: string): Every | null {
  const parts = duration.replace(/^\+/, "");
  if (!/^(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+$/.test(parts)) return null;
  let nanoseconds = 0n;
  for (const [, whole, fraction = "", unit] of parts.matchAll(/([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g)) {
    const size = UNITS[unit!]!;
    nanoseconds += BigInt(whole || 0) * size + (BigInt(fraction || 0) * size) / 10n ** BigInt(fraction.length);
  }
  if (nanoseconds === 0n) return null;
  const seconds = nanoseconds / 1_000_000_000n;
  return { every: seconds || 1n };
}
