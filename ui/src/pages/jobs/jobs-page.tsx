/** All jobs, a row each. Rows are drawn once; what changes later are marks, times, switches. */

import { computed, signal, useComputed } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { now } from "../../app/clock";
import { executionHref, jobHref } from "../../app/route";
import { last, LastSelector } from "../../pieces/last";
import { Lazy } from "../../pieces/lazy";
import { Name, Tags } from "../../pieces/name";
import { RunButton } from "../../pieces/run";
import { Schedule } from "../../pieces/schedule";
import { Mark, Tally } from "../../pieces/state";
import { Switch } from "../../pieces/switch";
import { Time } from "../../pieces/time";
import { Board, type JobRow } from "../../model/board";
import { newest, type Notice } from "../../model/news";
import { local } from "../../model/time";
import * as api from "../../wire/api";
import { listen } from "../../wire/live";
import "./jobs-page.css";

const board = new Board();
const failure = signal("");
const wanted = signal("");
const notices = signal<Notice[]>([]);
const trouble = signal("");

async function load(): Promise<void> {
  void askNotices();
  try {
    board.overview(await api.getOverview(last()));
    failure.value = "";
  } catch (error) {
    failure.value = String((error as Error).message);
  }
}

async function askNotices(): Promise<void> {
  try {
    notices.value = await api.getNotices();
    trouble.value = "";
  } catch (error) {
    trouble.value = (error as Error).message;
  }
}

/** Next fires are passed over as time goes: they are asked for again, but not all the time. */
const REFRESH = 5000; // milliseconds

function refreshPassed(): void {
  const at = now();
  const passed = board.rows.peek()?.some(({ job }) => {
    const cell = board.job(job);
    const next = cell.next.peek();
    return cell.active.peek() && next !== null && Date.parse(next) < at;
  });
  if (passed && !document.hidden) void load();
}

/** The page is kept up while it is shown, and begins with what was known when it was left. */
function start(): () => void {
  document.title = "Jobs · goflow";
  const stop = listen(api.address("stream"), (execution) => board.apply(execution), () => void load());
  const timer = setInterval(refreshPassed, REFRESH);
  return () => {
    stop();
    clearInterval(timer);
  };
}

const found = computed(() => {
  const words = wanted.value.trim().toLowerCase();
  const rows = board.rows.value ?? [];
  if (!words) return rows;
  return rows.filter((row) => [row.job, row.description, ...row.tags].some((text) => text.toLowerCase().includes(words)));
});

export function JobsPage() {
  useEffect(start, []);
  const rows = board.rows.value;
  return (
    <>
      <header class="top">
        <h1>Jobs</h1>
        <span class="quiet count">{rows && (wanted.value ? `${found.value.length} of ${rows.length}` : rows.length)}</span>
        <input
          type="search"
          class="search"
          placeholder="Find a job or tag"
          aria-label="Find a job or tag"
          onInput={(event) => (wanted.value = event.currentTarget.value)}
        />
        <LastSelector onChange={() => void load()} />
      </header>
      {failure.value && <p class="failure">The jobs could not be loaded: {failure.value}.</p>}
      {trouble.value && <p class="failure">The server is not well: {trouble.value}.</p>}
      <News />
      {rows?.length === 0 && <p class="empty">No jobs yet. Add one to your main.py and restart the server.</p>}
      {rows && rows.length > 0 && (
        <div class="jobs" role="table" aria-label="Jobs">
          <div class="row head" role="row">
            <span role="columnheader">Job</span>
            <span role="columnheader">Schedule</span>
            <span role="columnheader">Next</span>
            <span role="columnheader">
              Executions <span class="quiet">newest first</span>
            </span>
            <span role="columnheader">
              <span class="unseen">Run</span>
            </span>
            <span role="columnheader">On</span>
          </div>
          {found.value.map((row) => (
            <Row key={row.job} row={row} />
          ))}
        </div>
      )}
      {rows && rows.length > 0 && found.value.length === 0 && <p class="empty">No job matches.</p>}
    </>
  );
}

/** What happened to the server lately, in one line. */
function News() {
  const said = newest(notices.value, now());
  if (!said) return null;
  return (
    <p class="news">
      <Time at={said.notice.at} /> {said.notice.text}
      {said.others > 0 && ` (and ${said.others} more within a day)`}
    </p>
  );
}

function Row({ row }: { row: JobRow }) {
  const job = board.job(row.job);
  return (
    <div class="row" role="row" data-job={row.job}>
      <span role="cell" class="what">
        <a class="title" href={jobHref(row.job)}>
          <Name text={row.job} />
        </a>
        {row.description && <span class="quiet description">{row.description}</span>}
        <Tags tags={row.tags} />
      </span>
      <span role="cell" class="when">
        <Schedule schedule={row.schedule} timezone={row.timezone} />
      </span>
      <span role="cell" class="next">
        <Next job={row.job} />
      </span>
      <span role="cell" class="history">
        <Lazy class="marks">{() => <Marks job={row.job} />}</Lazy>
      </span>
      <span role="cell" class="execute">
        <RunButton job={row.job} />
      </span>
      <span role="cell" class="on">
        <Switch job={job} />
      </span>
    </div>
  );
}

function Next({ job }: { job: string }) {
  const cell = board.job(job);
  const next = useComputed(() => (cell.active.value ? cell.next.value : null));
  return <Time at={next.value} none="–" />;
}

function Marks({ job }: { job: string }) {
  const executions = board.job(job).executions.value.slice(0, last());
  if (!executions.length) return <span class="quiet">none yet</span>;
  return (
    <>
      <Tally cells={executions.map((execution) => execution.state)} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.state}
          about={local(execution.submitted, new Date(now()))}
          href={executionHref(execution.id)}
        />
      ))}
    </>
  );
}
