/** The list of jobs. Rows render once; later updates change only their bars, times and switches. */

import { signal, useComputed } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { now } from "../../app/clock";
import { useKeys } from "../../app/keys";
import { jobHref } from "../../app/route";
import { choose, chosen } from "../../app/router";
import { percent, recordOf } from "../../model/bars";
import type { LiveJob, JobRow } from "../../model/live";
import { choiceOf, SORTS, sortOf, SWITCHES, type Choice, type Sort } from "../../model/listing";
import { latestNotice } from "../../model/notices";
import { LABEL, STATES } from "../../model/states";
import { span } from "../../model/time";
import { Bars } from "../../components/bars";
import { last, LastSelector } from "../../components/last";
import { Name } from "../../components/name";
import { useRoving } from "../../components/roving";
import { run, RunButton } from "../../components/run";
import { Schedule } from "../../components/schedule";
import { Sign, Tally } from "../../components/state";
import { Switch, turn } from "../../components/switch";
import { Countdown, JobZone, Time } from "../../components/time";
import { useWindow } from "../../components/window";
import { liveState, failure, found, notices, numbers, start, tags, trouble, requestHistory } from "./jobs-view";
import "./jobs-page.css";

const SORT_LABEL: Record<Sort, string> = {
  registered: "as registered",
  name: "by name",
  next: "next to run first",
  newest: "latest run first",
};

/** The current job for keyboard shortcuts. Its link gets the focus if a key selected it. */
const current = signal<string | null>(null);
let byKey = false;

export function JobsPage() {
  useEffect(start, []);
  const search = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const move = (by: number) => {
    const rows = found.peek();
    const at = rows.findIndex(({ job }) => job === current.peek());
    const to = at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by));
    byKey = true;
    current.value = rows[to]?.job ?? null;
    list.current?.dispatchEvent(new CustomEvent("reveal", { detail: to }));
  };
  const onCurrent = (act: (job: string) => void) => () => current.peek() !== null && act(current.peek()!);
  useKeys("Jobs", [
    { key: "/", does: "Find a job", act: () => search.current?.focus() },
    { key: "j", does: "Next job", act: () => move(1) },
    { key: "k", does: "Previous job", act: () => move(-1) },
    { key: "r", does: "Run the job", act: onCurrent((job) => void run(job)) },
    { key: "s", does: "Toggle its schedule", act: onCurrent((job) => void turn(liveState.job(job), !liveState.job(job).active.peek())) },
  ]);
  const rows = liveState.rows.value;
  return (
    <>
      <header class="top finds">
        <h1>Jobs</h1>
        <input
          ref={search}
          type="search"
          class="search"
          placeholder="Find a job  ( / )"
          aria-label="Find a job"
          value={chosen("find") ?? ""}
          onInput={(event) => choose({ find: event.currentTarget.value || null })}
          onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
        />
        <Tag />
        <Order />
        <LastSelector onChange={() => {}} />
      </header>
      {rows && rows.length > 0 && <Choices all={rows.length} />}
      {failure.value && <p class="failure">The jobs could not be loaded: {failure.value}.</p>}
      {trouble.value && <p class="failure" role="alert">The server is unhealthy: {trouble.value}.</p>}
      <LatestNotice />
      {rows?.length === 0 && <p class="empty">No jobs yet. Add one to your main.py and restart the server.</p>}
      {rows && rows.length > 0 && (found.value.length ? <List box={list} rows={found.value} /> : <NoneFound />)}
    </>
  );
}

function NoneFound() {
  return (
    <p class="empty">
      No jobs match.{" "}
      <button type="button" class="plain link" onClick={() => choose({ find: null, only: null, tag: null })}>
        Show all
      </button>
    </p>
  );
}

/** Filters by the state of the newest execution and by the schedule switch, with counts. */
function Choices({ all }: { all: number }) {
  const wanted = choiceOf(chosen("only"));
  const pick = (choice: Choice | null) => choose({ only: choice === wanted ? null : choice });
  return (
    <div class="choices" role="group" aria-label="Filter by state">
      <button type="button" class="pick" aria-pressed={wanted === null} onClick={() => pick(null)}>
        All <b>{all}</b>
      </button>
      {STATES.map((state) => {
        const count = numbers.value.get(state) ?? 0;
        if (!count && wanted !== state) return null;
        return (
          <button type="button" class="pick" key={state} aria-pressed={wanted === state} onClick={() => pick(state)}>
            <span class={`mark ${state}`}>
              <Sign state={state} />
            </span>
            {LABEL[state]} <b>{count}</b>
          </button>
        );
      })}
      {SWITCHES.map((side) => (
        <button type="button" class="pick" key={side} aria-pressed={wanted === side} onClick={() => pick(side)}>
          {side} <b>{numbers.value.get(side) ?? 0}</b>
        </button>
      ))}
    </div>
  );
}

function Tag() {
  const wanted = chosen("tag");
  if (!tags.value.length && wanted === null) return null;
  const offered = wanted === null || tags.value.includes(wanted) ? tags.value : [wanted, ...tags.value];
  return (
    <select aria-label="Tag" value={wanted ?? ""} onChange={(event) => choose({ tag: event.currentTarget.value || null })}>
      <option value="">any tag</option>
      {offered.map((tag) => (
        <option key={tag} value={tag}>
          {tag}
        </option>
      ))}
    </select>
  );
}

function Order() {
  return (
    <select
      aria-label="Order"
      value={sortOf(chosen("sort"))}
      onChange={({ currentTarget: { value } }) => choose({ sort: value === SORTS[0] ? null : value })}
    >
      {SORTS.map((sort) => (
        <option key={sort} value={sort}>
          {SORT_LABEL[sort]}
        </option>
      ))}
    </select>
  );
}

/** The latest notice of the server in one line. */
function LatestNotice() {
  const latest = latestNotice(notices.value, now());
  if (!latest) return null;
  return (
    <p class="latest-notice">
      <Time at={latest.notice.at} /> {latest.notice.text}
      {latest.others > 0 && ` (and ${latest.others} more within a day)`}
    </p>
  );
}

const ROW = 64; // pixels, as in the style sheet
const NARROW_ROW = 132;

function List({ box, rows }: { box: RefObject<HTMLDivElement | null>; rows: JobRow[] }) {
  const height = wide.value ? ROW : NARROW_ROW;
  const [from, to] = useWindow(box, rows.length, height);
  const bars = useRoving(box, ".history", "a");
  useEffect(() => {
    const reveal = (event: Event) => {
      const top = box.current!.getBoundingClientRect().top + (event as CustomEvent<number>).detail * height;
      if (top < 120 || top > innerHeight - 2 * height) scrollBy({ top: top - innerHeight / 2 });
    };
    box.current?.addEventListener("reveal", reveal);
    return () => box.current?.removeEventListener("reveal", reveal);
  }, [height]);
  return (
    <div class="jobs" role="table" aria-label="Jobs" aria-rowcount={rows.length + 1}>
      <div class="row head" role="row" aria-rowindex={1}>
        <span role="columnheader">On</span>
        <span role="columnheader">Job</span>
        <span role="columnheader">Schedule</span>
        <span role="columnheader" class="to-end">
          Executions <span class="quiet">newest right</span>
        </span>
        <span role="columnheader" class="to-end">
          Record <span class="quiet visually-hidden">success rate and typical duration</span>
        </span>
        <span role="columnheader">
          <span class="visually-hidden">Run</span>
        </span>
      </div>
      <div ref={box} role="rowgroup" class="all" style={{ height: `${rows.length * height}px` }} {...bars}>
        {rows.slice(from, to).map((row, index) => (
          <Row key={row.job} row={row} place={from + index} top={(from + index) * height} />
        ))}
      </div>
    </div>
  );
}

/** Whether the page is wide enough for one-line rows. */
const wide = signal(true);
const width = matchMedia("(min-width: 60.01rem)");
wide.value = width.matches;
width.addEventListener("change", () => (wide.value = width.matches));

function Row({ row, place, top }: { row: JobRow; place: number; top: number }) {
  const job = liveState.job(row.job);
  const isCurrent = useComputed(() => current.value === row.job).value;
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    // Another key may have been pressed since the render.
    if (!isCurrent || current.peek() !== row.job) return;
    if (byKey) link.current?.focus({ preventScroll: true });
    byKey = false;
  }, [isCurrent]);
  const shown = last();
  useEffect(() => requestHistory(row.job), [row.job, shown]);
  return (
    <JobZone.Provider value={row.timezone}>
      <div
        class={`row${isCurrent ? " current" : ""}`}
        role="row"
        aria-rowindex={place + 2}
        data-job={row.job}
        style={{ top: `${top}px` }}
        onFocusIn={() => (current.value = row.job)}
      >
        <span role="cell" class="on">
          <Switch job={job} />
        </span>
        <span role="cell" class="what">
          <a ref={link} class="title" href={jobHref(row.job)} title={row.job}>
            <Name text={row.job} />
          </a>
          <span class="about">
            {row.tags.map((tag) => (
              <button
                type="button"
                class="tag"
                key={tag}
                title={`Only jobs tagged ${tag}`}
                onClick={() => choose({ tag: chosen("tag") === tag ? null : tag })}
              >
                <bdi>{tag}</bdi>
              </button>
            ))}
            <span class="quiet" title={row.description}>
              {row.description}
            </span>
          </span>
        </span>
        <span role="cell" class="when">
          <Schedule brief schedules={row.schedules} timezone={row.timezone} after={row.after}>
            <Next job={job} />
          </Schedule>
        </span>
        <span role="cell" class="history">
          <History job={job} />
        </span>
        <span role="cell" class="record">
          <TrackRecord job={job} />
        </span>
        <span role="cell" class="run">
          <RunButton job={row.job} />
        </span>
      </div>
    </JobZone.Provider>
  );
}

function Next({ job }: { job: LiveJob }) {
  const next = useComputed(() => (job.active.value ? job.next.value : null)).value;
  if (next === null) return null;
  return (
    <span class="next">
      <Countdown to={next} />
    </span>
  );
}

/** The summary of the executions shown. */
function useRecord(job: LiveJob) {
  return useComputed(() => {
    const runs = job.executions.value.slice(0, last());
    return recordOf(runs.map(({ state, times }) => ({ state: state.value, ...times.value })));
  });
}

function History({ job }: { job: LiveJob }) {
  const executions = job.executions.value.slice(0, last());
  const record = useRecord(job);
  const longest = useComputed(() => record.value.longest).value;
  if (!executions.length) return <span class="quiet">none yet</span>;
  return (
    <>
      <Tally cells={executions.map((execution) => execution.state)} />
      <Bars executions={executions} longest={longest} />
    </>
  );
}

function TrackRecord({ job }: { job: LiveJob }) {
  const { rate, typical } = useRecord(job).value;
  return (
    <>
      {rate !== null && <span title={`Success rate of the last ${last()} executions`}>{percent(rate)}</span>}
      {typical !== null && (
        <span class="quiet" title="Typical duration: median of successful executions">
          {span(typical)}
        </span>
      )}
    </>
  );
}
