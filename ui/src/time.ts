/** Times as the server writes them (RFC 3339, UTC), compared and put into words. */

/** A key that sorts as the time does, to the nanosecond, however many digits were written. */
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

const clock: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/** A time on the reader's own clock, with the day unless it is the day of `now`. */
export function local(time: string, now: Date, locale?: string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  if (date.toDateString() === now.toDateString()) return date.toLocaleTimeString(locale, clock);
  const day: Intl.DateTimeFormatOptions = { day: "numeric", month: "short" };
  if (date.getFullYear() !== now.getFullYear()) day.year = "numeric";
  return `${date.toLocaleDateString(locale, day)}, ${date.toLocaleTimeString(locale, clock)}`;
}
