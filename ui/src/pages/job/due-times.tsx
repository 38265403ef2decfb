/** The due times of a job's schedule: the next ones, and the outcomes of past ones. */

import { useState } from "preact/hooks";
import { attempt } from "../../app/notices";
import { executionHref } from "../../app/route";
import { inRuns, OUTCOME_SIGN, outcomeOf, tallyOf, type Tick, type Upcoming } from "../../model/ticks";
import { Countdown, Time } from "../../components/time";
import * as api from "../../api/client";
import { TICKS, type JobView } from "./job-view";

export function DueTimes({ view }: { view: JobView }) {
  const due = view.due.value;
  if (!due) return null;
  if (!due.ticks.length && !due.next.upcoming.length)
    return <p class="empty">{view.removed.value ? "No due times are recorded." : "This job has no schedule."}</p>;
  return (
    <div class="lists due-times">
      {!view.removed.value && <Coming active={view.cell.active.value} next={due.next} />}
      <Ledger key={view.name} view={view} newest={due.ticks} />
    </div>
  );
}

function Coming({ active, next }: { active: boolean; next: Upcoming }) {
  const skipped = next.skipped.map(({ due, reason }) => ({ due, reason: `skipped: ${reason}` }));
  const reasons = new Map([...next.clock_changes, ...skipped].map(({ due, reason }) => [due, reason]));
  return (
    <section class="card" aria-label="Next due times">
      <h2>Next</h2>
      {!active && <p class="quiet none">The schedule is off. If it were on, the job would be due:</p>}
      <ol class="list upcoming">
        {next.upcoming.map((time) => (
          <li key={time}>
            <Time at={time} />
            <span class="quiet">{active && <Countdown to={time} />}</span>
            {reasons.has(time) && <span class="change">{reasons.get(time)}</span>}
          </li>
        ))}
      </ol>
      {next.upcoming.length === 0 && <p class="quiet none">None.</p>}
    </section>
  );
}

/** The outcomes of past due times, newest first; a button loads older ones. */
function Ledger({ view, newest }: { view: JobView; newest: Tick[] }) {
  const [older, setOlder] = useState<Tick[]>([]);
  const [all, setAll] = useState(false);
  const oldest = older.at(-1) ?? newest.at(-1);
  // New entries since the last load may have shifted some of the newest ones into the older ones.
  const known = new Set(newest.map(({ due, count }) => `${due} ${count}`));
  const ticks = [...newest, ...older.filter(({ due, count }) => !known.has(`${due} ${count}`))];
  const more = async () => {
    const found = await attempt(
      api.getTicks(view.name, TICKS, oldest!.due),
      (found) => (found.length ? `${found.length} older entries.` : "There are no older entries."),
      "The ledger could not be loaded",
    );
    if (!found) return;
    setOlder([...ticks.slice(newest.length), ...found]);
    setAll(found.length < TICKS);
  };
  return (
    <section class="card ledger" aria-label="Due times">
      <div class="bar">
        <h2>Past due times</h2>
        <span class="quiet">{tallyOf(ticks)}</span>
      </div>
      {ticks.length === 0 && <p class="quiet none">None yet.</p>}
      <ol class="list">
        {inRuns(ticks).map((tick) => (
          <Row key={`${tick.due} ${tick.count}`} tick={tick} />
        ))}
      </ol>
      {newest.length >= TICKS && !all && (
        <button type="button" class="button" onClick={() => void more()}>
          Show older
        </button>
      )}
    </section>
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
      <span class="quiet tick-reason">
        {tick.reason}
        {execution && <a href={executionHref(execution)}>Show execution</a>}
      </span>
    </li>
  );
}
