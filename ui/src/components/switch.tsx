/** The switch of a job's schedule. */

import type { LiveJob } from "../model/live";
import { attempt, quoted } from "../app/notices";
import * as api from "../api/client";

/** Whether the schedule is on; a job without one can be switched too. */
export function Switch({ job }: { job: LiveJob }) {
  const active = job.active.value;
  return (
    <button
      type="button"
      class="switch"
      role="switch"
      aria-checked={active}
      aria-label={`Schedule of ${job.name}`}
      title={active ? "On: runs on schedule" : "Off: runs only manually"}
      onClick={() => void turn(job, !active)}
    >
      <span class="knob" />
    </button>
  );
}

/** Switches a schedule, with a message and undo. */
export async function turn(job: LiveJob, active: boolean): Promise<void> {
  const response = await attempt(
    api.setActive(job.name, active),
    (answer) => `${quoted(job.name)} is ${answer.active ? "on" : "off"}.`,
    `${quoted(job.name)} was not switched`,
    () => void turn(job, !active),
  );
  if (response) job.active.value = response.active;
}
