/** The due times of a job's schedule: what became of the newest, and the next ones. */

import { TICKS, type JobView } from "./job-view";
import { executionHref } from "../../app/route";
import { inRuns, OUTCOME_SIGN, outcomeOf, tallyOf, type Tick } from "../../model/ticks";
import { Time } from "../../pieces/time";

export function DueTimes({ view }: { view: JobView }) {
  const due = view.due.value;
  if (!due || (!due.ticks.length && !due.upcoming.length)) return null;
  return (
    <section aria-label="Due times">
      <div class="bar">
        <h2>Due times</h2>
        {due.ticks.length > 0 && (
          <>
            <span class="quiet">newest first, {TICKS} at most</span>
            <span class="unseen">{tallyOf(due.ticks)}</span>
          </>
        )}
        <Upcoming view={view} times={due.upcoming} />
      </div>
      {due.ticks.length === 0 && <p class="quiet none">None has passed yet.</p>}
      {due.ticks.length > 0 && (
        <ol class="list">
          {inRuns(due.ticks).map((tick) => (
            <Row key={tick.due} tick={tick} />
          ))}
        </ol>
      )}
    </section>
  );
}

function Upcoming({ view, times }: { view: JobView; times: string[] }) {
  if (!times.length) return null;
  return (
    <span class="upcoming">
      <span class="quiet">{view.cell.active.value ? "next" : "the schedule is off; if it were on, next"}</span>
      {times.map((time) => (
        <Time key={time} at={time} />
      ))}
    </span>
  );
}

function Row({ tick }: { tick: Tick }) {
  const { execution } = tick;
  return (
    <li class="tick" data-outcome={tick.outcome}>
      <span class="state">
        <span class={`mark ${tick.outcome}`}>
          <svg class="sign" viewBox="0 0 12 12" aria-hidden="true">
            <path d={OUTCOME_SIGN[tick.outcome]} />
          </svg>
        </span>
        {outcomeOf(tick)}
      </span>
      <span class="at">
        <Time at={tick.due} />
        {tick.until && (
          <>
            {" "}
            <span class="quiet">until</span> <Time at={tick.until} />
          </>
        )}
      </span>
      <span class="quiet because">
        {tick.reason}
        {execution && (
          <a href={executionHref(execution)}>Show execution</a>
        )}
      </span>
    </li>
  );
}
