/** The headings of columns of executions: days and times, where there is space. Pure. */

import { shortDay, shortHour } from "./time";

/** The minimum distance in columns from the previous heading, for a day and for an hour. */
const DAY_APART = 4;
const HOUR_APART = 6;

/**
 * The headings for `times` from left to right, with columns counted from 0. `scale` is how many times
 * narrower than 19 pixels a column is.
 */
export function headsOf(
  times: string[],
  zone?: string,
  locale?: string,
  scale = 1,
): { column: number; text: string }[] {
  const heads: { column: number; text: string }[] = [];
  let day = "";
  times.forEach((time, column) => {
    const apart = column - (heads.at(-1)?.column ?? -Infinity);
    const of = shortDay(time, zone, locale);
    if (of !== day && apart >= scale * DAY_APART) {
      heads.push({ column, text: of });
      day = of;
    } else if (of === day && apart >= scale * HOUR_APART) heads.push({ column, text: shortHour(time, zone, locale) });
  });
  return heads;
}
