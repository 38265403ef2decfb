/** Running and waiting executions, wait reasons and next due times of all jobs, on one time axis. */

import { useEffect, useMemo, useRef } from "preact/hooks";
import { now, second } from "../../app/clock";
import { executionHref, jobHref } from "../../app/route";
import { choose, chosen } from "../../app/router";
import { hoursOf, lanesOf, placeOf, spanAround, type Lane, type Piece, type Span } from "../../model/lanes";
import { LABEL } from "../../model/states";
import { elapsed, local, shortHour, span } from "../../model/time";
import { JobLinks } from "../../components/job-links";
import { Name } from "../../components/name";
import { Sign } from "../../components/state";
import { Countdown, Time, useZone } from "../../components/time";
import type { Now, Pool, UnfinishedExecution } from "../../api/client";
import { PoolName } from "../../components/pool";
import { Waits } from "../../components/waits";
import { useRoving } from "../../components/roving";
import { useWidth } from "../../components/width";
import { EACH, NowView } from "./now-view";
import "./now-page.css";

const REACHES = { "10m": 600, "1h": 3600, "6h": 21_600, "1d": 86_400 } as const; // seconds ahead
type Reach = keyof typeof REACHES;
const REACH_LABEL: Record<Reach, string> = { "10m": "10 minutes", "1h": "an hour", "6h": "6 hours", "1d": "a day" };
const STANDARD: Reach = "1h";
const MANY = 60; // lanes drawn
const LISTED = 30; // executions and jobs listed
// Pixels, as in the style sheet.
const MIN_WIDTH = 14;
const DUE = 11;

function reach(): Reach {
  const wanted = chosen("ahead");
  return (Object.keys(REACHES) as Reach[]).find((one) => one === wanted) ?? STANDARD;
}

export function NowPage() {
  const view = useMemo(() => new NowView(() => REACHES[reach()]), []);
  useEffect(() => view.start(), [view]);
  const ahead = reach();
  useEffect(() => void view.load(), [view, ahead]);
  const found = view.now.value;
  return (
    <>
      <header class="top">
        <h1>Now</h1>
        <label class="choice button-row">
          Ahead{" "}
          <select
            value={ahead}
            onChange={({ currentTarget: { value } }) => choose({ ahead: value === STANDARD ? null : value })}
          >
            {(Object.keys(REACHES) as Reach[]).map((one) => (
              <option key={one} value={one}>
                {REACH_LABEL[one]}
              </option>
            ))}
          </select>
        </label>
      </header>
      {view.failure.value && <p class="failure">Some data could not be loaded: {view.failure.value}.</p>}
      {found && (
        <>
          <Figures found={found} />
          {found.abandoned.length > 0 && <Abandoned found={found} />}
          <Axis view={view} found={found} seconds={REACHES[ahead]} />
          <div class="lists">
            <Unfinished found={found} />
            <Coming found={found} />
          </div>
        </>
      )}
    </>
  );
}

function Figures({ found }: { found: Now }) {
  const tasks = found.executions.flatMap((execution) => execution.tasks);
  const running = tasks.filter(({ state, waiting }) => state === "running" && waiting === null).length;
  const waiting = tasks.filter(({ waiting }) => waiting !== null).length;
  return (
    <div class="figures now-figures">
      <Figure count={found.unfinished} one="execution in progress" many="executions in progress" />
      <Figure count={running} one="task running" many="tasks running" />
      <Figure count={waiting} one="task waiting" many="tasks waiting" />
      <span class="limit-figures">
        <span class="quiet">in use:</span>
        {found.pools.map((pool) => (
          <PoolFigure key={`${pool.kind} ${pool.name}`} pool={pool} />
        ))}
      </span>
    </div>
  );
}

function Figure({ count, one, many }: { count: number; one: string; many: string }) {
  return (
    <span>
      <b>{count.toLocaleString("en")}</b> <span class="quiet">{count === 1 ? one : many}</span>
    </span>
  );
}

function PoolFigure({ pool }: { pool: Pool }) {
  const { limit, running } = pool;
  return (
    <span class={running >= limit ? "full" : ""}>
      <PoolName pool={pool} />{" "}
      <b>
        {running} of {limit}
      </b>
      {running >= limit && <span class="quiet"> full</span>}
    </span>
  );
}

function Axis({ view, found, seconds }: { view: NowView; found: Now; seconds: number }) {
  const zone = useZone();
  const time = second.value;
  const lines = useRef<HTMLElement>(null);
  // The past takes a third of the axis.
  const axis = spanAround(time, (seconds * 1000) / 2, seconds * 1000);
  const field = useRef<HTMLSpanElement>(null);
  const room = useWidth(field, 600);
  const roving = useRoving(lines, ".field", "a");
  void view.changed.value;
  const grain = { piece: MIN_WIDTH / room, due: DUE / room, each: EACH };
  const lanes = lanesOf(view.executions.values(), found.upcoming, time, axis, grain);
  const reasons = new Map(found.executions.map(({ id, waiting }) => [id, waiting]));
  return (
    <section class="card axis" aria-label="Time axis" ref={lines} {...roving}>
      <div class="lane hours" aria-hidden="true">
        <span class="label" />
        <span class="axis-hours" ref={field}>
          {hoursOf(axis, Math.max(3, room / 110))
            .filter((hour) => placeOf(hour, axis) * room > 20 && Math.abs(placeOf(hour, axis) - placeOf(time, axis)) * room > 40)
            .map((hour) => (
              <span key={hour} class="hour" style={{ left: percent(placeOf(hour, axis)) }}>
                {shortHour(new Date(hour).toISOString(), zone)}
              </span>
            ))}
          {view.since > axis.from && (
            <span
              class="left-out"
              title="Earlier executions are not shown"
              style={{ width: percent(Math.min(1, placeOf(view.since, axis))) }}
            />
          )}
          <span class="hour at-now" style={{ left: percent(placeOf(time, axis)) }}>
            now
          </span>
        </span>
      </div>
      {lanes.length === 0 && <p class="quiet none">No executions and no due times in this period.</p>}
      {lanes.slice(0, MANY).map((lane) => (
        <LaneRow key={lane.job} lane={lane} axis={axis} time={time} reasons={reasons} />
      ))}
      {lanes.length > MANY && <p class="quiet none">and {lanes.length - MANY} more jobs</p>}
    </section>
  );
}

const percent = (part: number) => `${(100 * part).toFixed(3)}%`;

function LaneRow(props: { lane: Lane; axis: Span; time: number; reasons: ReadonlyMap<string, string | null> }) {
  const { lane, axis, time, reasons } = props;
  const zone = useZone();
  return (
    <div class="lane" data-lane={lane.job}>
      <a class="label" href={jobHref(lane.job)} title={lane.job}>
        <Name text={lane.job} />
      </a>
      <span class="field">
        <span class="now-line" style={{ left: percent(placeOf(time, axis)) }} />
        {lane.pieces.map((piece) => (
          <PieceBar key={piece.id} piece={piece} job={lane.job} reason={reasons.get(piece.id) ?? null} />
        ))}
        {lane.dues.map(({ at, until, due, count }) => {
          const about = `due ${local(due, new Date(now()), zone)}${count > 1 ? ` and ${count - 1} more` : ""}`;
          return (
            <span
              key={due}
              class="due"
              style={{ left: percent(at), width: `calc(${percent(until - at)} + ${DUE - 1}px)` }}
              role="img"
              aria-label={about}
              title={about}
            />
          );
        })}
        {lane.known < 1 && <span class="more-due" title="and so on" style={{ left: percent(lane.known), right: 0 }} />}
      </span>
    </div>
  );
}

function PieceBar({ piece, job, reason }: { piece: Piece; job: string; reason: string | null }) {
  const { id, state, from, to, waits, count } = piece;
  const stateLabel = waits ? `waiting${reason ? `: ${reason}` : ""}` : LABEL[state];
  const about = count > 1 ? `${job}: ${count} finished executions, the worst ${stateLabel}` : `${job}: ${stateLabel}`;
  return (
    <a
      class={`piece ${state}${waits ? " waits" : ""}`}
      data-state={state}
      href={executionHref(id)}
      style={{ right: percent(1 - to), width: percent(to - from) }}
      title={about}
      aria-label={about}
      tabIndex={-1}
    >
      <Sign state={state} />
    </a>
  );
}

/** Abandoned attempts that still hold a slot and need attention. */
function Abandoned({ found: { abandoned, pools } }: { found: Now }) {
  const all = pools.find(({ kind }) => kind === "all");
  return (
    <section class="card abandoned" aria-label="Abandoned attempts">
      <h2>Abandoned attempts</h2>
      <p class="none">
        {abandoned.length === 1 ? "One attempt was" : `${abandoned.length} attempts were`} abandoned but cannot be stopped,
        since Python cannot end a thread. {abandoned.length === 1 ? "It holds a slot" : "Each holds a slot"} until its thread
        ends or the server restarts
        {all && `; ${Math.max(0, all.limit - all.running)} of ${all.limit} slots are free`}. A task with{" "}
        <code>isolation="process"</code> can be stopped.
      </p>
      <ul class="list">
        {abandoned.slice(0, LISTED).map(({ execution, job, task, attempt, started, abandoned }) => (
          <li key={`${execution} ${task} ${attempt}`}>
            <a href={executionHref(execution, { task, attempt: String(attempt) })}>
              <Name text={job} /> <Name text={task} />
            </a>
            <span class="quiet">
              attempt {attempt}, running {started && `for ${elapsed(second.value - Date.parse(started))}, `}abandoned{" "}
              <Time at={abandoned} />
            </span>
          </li>
        ))}
      </ul>
      {abandoned.length > LISTED && <p class="quiet none">and {abandoned.length - LISTED} more</p>}
    </section>
  );
}

/** The unfinished executions, with the reasons for waiting. */
function Unfinished({ found }: { found: Now }) {
  return (
    <section class="card" aria-label="In progress">
      <h2>In progress</h2>
      {found.executions.length === 0 && <p class="quiet none">Nothing is running or waiting.</p>}
      <ul class="list unfinished">
        {found.executions.slice(0, LISTED).map((execution) => (
          <UnderWay key={execution.id} execution={execution} />
        ))}
      </ul>
      {found.unfinished > Math.min(LISTED, found.executions.length) && (
        <p class="quiet none">and {found.unfinished - Math.min(LISTED, found.executions.length)} more</p>
      )}
    </section>
  );
}

function UnderWay({ execution }: { execution: UnfinishedExecution }) {
  const { id, job, state, started, submitted, waiting, tasks, counts, followers } = execution;
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const ended = all - (counts.notstarted ?? 0) - (counts.running ?? 0) - (counts.upforretry ?? 0);
  return (
    <li data-unfinished={id}>
      <span class={`mark ${state}`}>
        <Sign state={state} />
      </span>
      <a href={executionHref(id)}>
        <Name text={job} />
      </a>
      <span class="quiet">
        {started ? `for ${span(Math.max(0, second.value - Date.parse(started)))}` : "not started"}, {ended} of {all} tasks
      </span>
      {followers.length > 0 && (
        <p class="reason">
          then <JobLinks jobs={followers} />
        </p>
      )}
      {waiting !== null && (
        <p class="reason">
          waiting since <Time at={submitted} />: {waiting}
        </p>
      )}
      {tasks.map((task) => (
        <p class="reason" key={task.name}>
          <a href={executionHref(id, { task: task.name })}>
            <Name text={task.name} />
          </a>{" "}
          {task.hook && <span class="quiet">hook </span>}
          {task.waiting !== null ? (
            <>
              waiting: <Waits on={task.waiting} />
            </>
          ) : task.state === "running" && task.started ? (
            `running for ${span(Math.max(0, second.value - Date.parse(task.started)))}`
          ) : (
            LABEL[task.state]
          )}
          {task.retry_at !== null && (
            <>
              {" "}
              <Countdown to={task.retry_at} />
            </>
          )}
        </p>
      ))}
    </li>
  );
}

/** The jobs that are due next, by their first due time. */
function Coming({ found }: { found: Now }) {
  const next = new Map<string, string[]>();
  const followersOf = new Map(found.upcoming.map(({ job, followers }) => [job, followers]));
  for (const { job, due } of found.upcoming) {
    const dues = next.get(job);
    if (dues) dues.push(due);
    else next.set(job, [due]);
  }
  return (
    <section class="card" aria-label="Next">
      <h2>Next</h2>
      {next.size === 0 && <p class="quiet none">Nothing is due in this period.</p>}
      <ul class="list next-up">
        {[...next].slice(0, LISTED).map(([job, dues]) => (
          <li key={job}>
            <Countdown to={dues[0]!} />
            <span>
              <a href={jobHref(job)}>
                <Name text={job} />
              </a>
              {followersOf.get(job)!.length > 0 && (
                <span class="quiet">
                  {" "}
                  then <JobLinks jobs={followersOf.get(job)!} />
                </span>
              )}
            </span>
            <span class="quiet">
              <Time at={dues[0]!} />
            </span>
            <span class="quiet then">{dues.length > 1 && `and ${dues.length >= EACH ? "many" : dues.length - 1} more`}</span>
          </li>
        ))}
      </ul>
      {next.size > LISTED && <p class="quiet none">and {next.size - LISTED} more jobs</p>}
    </section>
  );
}
