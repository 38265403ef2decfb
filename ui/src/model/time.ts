/** Comparing and formatting of the server's times (RFC 3339, UTC). */

/** A sort key of a time, to the nanosecond, for any number of digits. */
export function instant(time: string): string {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? "";
  return `${time.slice(0, 19)}.${fraction.slice(0, 9).padEnd(9, "0")}`;
}

/** A span of milliseconds: "340 ms", "4.2 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
export function span(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const [d, h, m, s] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
    seconds % 60,
  ];
  if (d) return h ? `${d} d ${h} h` : `${d} d`;
  if (h) return m ? `${h} h ${m} min` : `${h} h`;
  return s ? `${m} min ${s} s` : `${m} min`;
}

/** An elapsed time in whole seconds: "12 s", "3 min 5 s". */
export function elapsed(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return seconds < 60 ? `${seconds} s` : span(seconds * 1000);
}

/** The time left until `milliseconds` from now: "in 4 min 10 s". */
export function countdown(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / 1000);
  if (seconds <= 0) return "now";
  return `in ${seconds < 60 ? `${seconds} s` : span(seconds * 1000)}`;
}

const clock: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

const formats = new Map<string, Intl.DateTimeFormat>();

/** Cached, since creating a format is slow. */
function format(zone: string | undefined, locale: string | undefined, options: Intl.DateTimeFormatOptions) {
  const key = JSON.stringify([zone, locale, options]);
  let made = formats.get(key);
  if (!made) {
    const all: Intl.DateTimeFormatOptions = zone === undefined ? options : { ...options, timeZone: zone };
    formats.set(key, (made = new Intl.DateTimeFormat(locale, all)));
  }
  return made;
}

const calendar: Intl.DateTimeFormatOptions = { year: "numeric", month: "2-digit", day: "2-digit" };

/** The day of a time in a zone, by default the browser's: "2026-11-21". */
export function dayOf(time: number, zone?: string): string {
  return format(zone, "sv-SE", calendar).format(time);
}

/** A time in `zone`, with the day unless that is today. */
export function local(time: string, now: Date, zone?: string, locale?: string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  const hour = format(zone, locale, clock).format(date);
  const [day, today] = [dayOf(date.getTime(), zone), dayOf(now.getTime(), zone)];
  if (day === today) return hour;
  const shown: Intl.DateTimeFormatOptions = { day: "numeric", month: "short" };
  if (day.slice(0, 4) !== today.slice(0, 4)) shown.year = "numeric";
  return `${format(zone, locale, shown).format(date)}, ${hour}`;
}

/** A short day: "21 Nov". */
export function shortDay(time: string, zone?: string, locale?: string): string {
  return format(zone, locale, { day: "numeric", month: "short" }).format(new Date(time));
}

/** The hour and minute of a time: "14:05". */
export function shortHour(time: string, zone?: string, locale?: string): string {
  return format(zone, locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(new Date(time));
}

/** The time of day with milliseconds: "14:05:07.042". */
export function stamp(time: string, zone?: string, locale?: string): string {
  return format(zone, locale, { ...clock, fractionalSecondDigits: 3 }).format(new Date(time));
}

/** A full time with its zone. */
export function inFull(time: string, zone?: string, locale?: string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  return format(zone, locale, { dateStyle: "full", timeStyle: "long" }).format(date);
}

/** The label of a time on an axis with a tick every `step` milliseconds. */
export function moment(time: number, step: number, zone?: string, locale?: string): string {
  const options: Intl.DateTimeFormatOptions =
    step >= 86_400_000
      ? { day: "numeric", month: "short" }
      : step >= 60_000
        ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
        : clock;
  return format(zone, locale, options).format(time);
}
