/**
 * A schedule in words: "Every 5 minutes, between 09:00 and 17:59".
 *
 * Rule: words never stand in for the expression, only beside it, and where they cannot be
 * had there are none. They follow goflow's reading: seconds come first, and day of month and
 * day of week are both meant only if one of them begins with a star.
 */

import cronstrue from "cronstrue";

export function inWords(schedule: string): string {
  const expression = schedule.trim().replace(/^(CRON_)?TZ=\S*\s+/, "");
  const every = /^@every\s+(.+)$/.exec(expression);
  if (every) return `Every ${every[1]!.replace(/([a-zµ]+)(?=\d)/g, "$1 ").replace(/(\d)([a-zµ])/g, "$1 $2")}`;
  const fields = expression.split(/\s+/);
  const [day, weekday] = [fields.at(-3), fields.at(-1)];
  const both = !!day?.startsWith("*") || !!weekday?.startsWith("*");
  try {
    const words = cronstrue.toString(expression, { use24HourTimeFormat: true, logicalAndDayFields: both });
    return both ? words : words.replace(", and on ", ", or on ");
  } catch (error) {
    // The library throws texts, and says with them that it does not know the expression.
    if (typeof error === "string") return "";
    throw error;
  }
}
