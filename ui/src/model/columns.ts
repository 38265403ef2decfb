/** What stands over columns of which each is an execution: when it was, where there is room. Pure. */

import { shortDay, shortHour } from "./time";

/** A new day is named at least so many columns after the text before it, an hour so many. */
const DAY_APART = 4;
const HOUR_APART = 6;

/** `times` from left to right; texts over columns counted from 0. */
export function headsOf(times: string[], zone?: string, locale?: string): { column: number; text: string }[] {
  const heads: { column: number; text: string }[] = [];
  let day = "";
  times.forEach((time, column) => {
    const apart = column - (heads.at(-1)?.column ?? -Infinity);
    const of = shortDay(time, zone, locale);
    if (of !== day && apart >= DAY_APART) {
      heads.push({ column, text: of });
      day = of;
    } else if (of === day && apart >= HOUR_APART) heads.push({ column, text: shortHour(time, zone, locale) });
  });
  return heads;
}
