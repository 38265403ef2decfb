/**
 * What the text of a schedule means: the values of each field, read as the server reads them.
 *
 * Rule: this follows goflow/core/schedule.py, seconds first. What that refuses, or this does not
 * know, is null. A test compares it with the server's due times.
 */

/** Local times: each combination of second, minute and hour on the days and months named. */
export interface Cron {
  seconds: number[];
  minutes: number[];
  hours: number[];
  monthDays: number[];
  months: number[];
  /** 0 is Sunday. */
  weekDays: number[];
  /** Whether a day must be in both `monthDays` and `weekDays`; else one of them will do. */
  bothDays: boolean;
  /** Whether minute or hour is a wildcard: then a local time that comes twice is due twice. */
  wildcard: boolean;
}

/** A schedule that is due every so many seconds. */
export interface Every {
  every: bigint;
}

interface Field {
  low: number;
  high: number;
  /** Where `*` and `a/n` end. */
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

/** The zone that a schedule's text names itself; null if it leaves that to its job. */
export function zoneNamed(schedule: string): string | null {
  return PREFIX.exec(schedule)?.[1] ?? null;
}

export function meaning(schedule: string): Cron | Every | null {
  const text = schedule.replace(PREFIX, "").replace(/^[ \t]+|[ \t]+$/g, "");
  const every = /^@every(?:[ \t]+(.*))?$/.exec(text);
  if (every) return interval(every[1] ?? "");
  const fields = (Object.hasOwn(DESCRIPTORS, text) ? DESCRIPTORS[text]! : text).split(/[ \t]+/);
  if (fields.length === 5) fields.unshift("0");
  if (fields.length !== 6) return null;
  for (const day of [3, 5]) if (fields[day] === "?") fields[day] = "*";
  const read = fields.map((field, index) => valuesOf(field, FIELDS[index]!));
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
    bothDays: monthDay! || weekDay!,
    wildcard: minute! || hour!,
  };
}

/** The values that a field's text names, in order. */
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

/** NaN if there is no such value. */
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

/** A duration as Go writes it, in whole seconds: at least one, and a fraction of one is dropped. */
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
