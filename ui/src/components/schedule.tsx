/** A schedule in words, as an expression, and with its time zone. */

import type { ComponentChildren } from "preact";
import { zoneNamed } from "../model/cron";
import { inWords } from "../model/words";

/** `children` come before the expression. */
export function Schedule(props: { schedule: string | null; timezone: string; children?: ComponentChildren }) {
  const { schedule, timezone } = props;
  if (!schedule) return <span class="quiet">manual only</span>;
  const words = inWords(schedule);
  return (
    <span class="schedule">
      {words && <span title={words}>{words}</span>}
      <span class="quiet">
        {props.children}
        <code title={schedule}>{schedule}</code>
        {timezone && timezone !== "UTC" && zoneNamed(schedule) === null && ` ${timezone}`}
      </span>
    </span>
  );
}
