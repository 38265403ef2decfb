/** Schedules in words, as expressions, and with their time zone; or the jobs that a job runs after. */

import type { ComponentChildren } from "preact";
import { zoneNamed } from "../model/cron";
import { inWords } from "../model/words";
import { JobLinks } from "./job-links";

interface Props {
  schedules: string[];
  timezone: string;
  after: string[];
  /** Shows only the first schedule, and the number of others. */
  brief?: boolean;
  children?: ComponentChildren;
}

/** `children` come before the first expression. */
export function Schedule({ schedules, timezone, after, brief, children }: Props) {
  if (after.length) {
    return (
      <span class="schedule">
        <span>
          after <JobLinks jobs={after} />
        </span>
      </span>
    );
  }
  if (!schedules.length) return <span class="quiet">manual only</span>;
  const shown = brief ? schedules.slice(0, 1) : schedules;
  const others = schedules.slice(shown.length);
  return (
    <>
      {shown.map((schedule, index) => (
        <One key={schedule} schedule={schedule} timezone={timezone}>
          {index === 0 && children}
          {others.length > 0 && <span title={others.map((other) => inWords(other) || other).join("\n")}>and {others.length} more </span>}
        </One>
      ))}
    </>
  );
}

function One({ schedule, timezone, children }: { schedule: string; timezone: string; children: ComponentChildren }) {
  const words = inWords(schedule);
  return (
    <span class="schedule">
      {words && <span title={words}>{words}</span>}
      <span class="quiet">
        {children}
        <code title={schedule}>{schedule}</code>
        {timezone && timezone !== "UTC" && zoneNamed(schedule) === null && ` ${timezone}`}
      </span>
    </span>
  );
}
