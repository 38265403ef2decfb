/** What stands over columns of which each is an execution: when it was, where there is room. Pure. */

import { shortDay, shortHour } from "./time";

/** A new day is named at least so many columns after the text before it, an hour so many. */
const DAY_APART = 4;
const HOUR_APART = 6;

/**
 * `times` from left to right; texts over columns counted from 0. `scale` is by how much
 * columns are narrower than 19 pixels.
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
