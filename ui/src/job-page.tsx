/** One job: its tasks over the last executions, and one execution in full. */

import { computed, effect, signal, useComputed, type ReadonlySignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import * as api from "./api";
import { ExecutionCell, JobCell } from "./board";
import { Graph } from "./graph";
import { listen } from "./live";
import { Log } from "./log";
import { attempt, quoted } from "./notice";
import { parsed } from "./parameters";
import { Parameters, written } from "./parameters-form";
import {
  choose,
  ExecuteButton,
  last,
  LastSelector,
  Lazy,
  Mark,
  Name,
  Schedule,
  shown,
  Sign,
  StateLabel,
  Switch,
  Tally,
  Time,
} from "./pieces";
import { isFinished } from "./states";
import { span } from "./time";

let job = new JobCell("");
const description = signal<api.JobDescription | null>(null);
const failure = signal("");
const missing = signal(false);

/** The execution the reader chose; null follows the newest. */
const pinned = signal(new URLSearchParams(location.search).get("execution"));
const task = signal(new URLSearchParams(location.search).get("task"));
/** A chosen execution that is older than those listed. */
const older = signal<ExecutionCell | null>(null);

const selected = computed<ExecutionCell | null>(() => {
  const [newest] = job.executions.value;
  if (pinned.value === null) return newest ?? null;
  return job.execution(pinned.value) ?? (older.value?.id === pinned.value ? older.value : null);
});
const selectedId = computed(() => selected.value?.id ?? null);
const detail = signal<api.ExecutionDetail | null>(null);

function pickExecution(id: string | null): void {
  pinned.value = id;
  choose("execution", id);
}

function pickTask(name: string | null): void {
  task.value = name;
  choose("task", name);
}

async function load(): Promise<void> {
  try {
    const [described, executions] = await Promise.all([
      api.getJob(job.name),
      api.getExecutions(job.name, last.value),
    ]);
    if (JSON.stringify(described) !== JSON.stringify(description.peek())) description.value = described;
    job.active.value = described.active;
    job.next.value = described.next;
    job.apply(executions);
    failure.value = "";
    if (pinned.value !== null && !selected.value) {
      const chosen = await api.getExecution(pinned.value);
      older.value = new ExecutionCell(chosen);
    }
  } catch (error) {
    if (error instanceof api.RequestFailed && error.status === 404 && !description.peek()) missing.value = true;
    else failure.value = (error as Error).message;
  }
}

const PAUSE = 300; // milliseconds between two requests for the same execution in full

/** Keeps `detail` at what `selected` is, asking again when it has changed. */
function followDetail(): void {
  let asked = "";
  let busy = false;
  const ask = async () => {
    const cell = selected.peek();
    const now = cell && `${cell.id} ${cell.modified.peek()}`;
    if (busy || !cell || now === asked) return;
    busy = true;
    asked = now!;
    try {
      detail.value = await api.getExecution(cell.id);
      const { dag: _, ...brief } = detail.value;
      cell.apply(brief);
    } catch (error) {
      failure.value = (error as Error).message;
    }
    setTimeout(() => {
      busy = false;
      void ask();
    }, PAUSE);
  };
  effect(() => {
    void selected.value?.modified.value;
    void ask();
  });
}

const REFRESH = 5000; // milliseconds

export function startJobPage(name: string): void {
  job = new JobCell(name);
  document.title = `${name} · goflow`;
  listen(
    api.address(`stream?jobname=${encodeURIComponent(name)}`),
    (execution) => execution.job === name && job.apply([execution]),
    () => void load(),
  );
  followDetail();
  setInterval(() => {
    const next = job.next.peek();
    if (!document.hidden && job.active.peek() && next !== null && Date.parse(next) < Date.now()) void load();
  }, REFRESH);
}

export function JobPage({ name }: { name: string }) {
  const described = description.value;
  if (missing.value)
    return (
      <p class="empty">
        There is no job named {"“"}
        <Name text={name} />
        {"”"}. <a href="./">All jobs</a>
      </p>
    );
  return (
    <>
      <header class="top">
        <h1>
          <Name text={name} />
        </h1>
        {described && <Facts described={described} />}
      </header>
      {failure.value && <p class="failure">The server said: {failure.value}.</p>}
      {described && (
        <>
          {described.params && Object.keys(described.params).length > 0 && <Parameters params={described.params} />}
          <section aria-label="Executions">
            <div class="bar">
              <h2>Executions</h2>
              <span class="quiet">newest first</span>
              <LastSelector onChange={() => void load()} />
            </div>
            <Grid tasks={described.tasks} />
          </section>
          <Selected described={described} />
        </>
      )}
    </>
  );
}

function Facts({ described }: { described: api.JobDescription }) {
  const next = useComputed(() => (job.active.value ? job.next.value : null));
  const params = () => {
    const { params } = described;
    return params && Object.keys(params).length ? parsed(params, written.peek()) : undefined;
  };
  return (
    <>
      {described.description && <p class="quiet description">{described.description}</p>}
      <div class="facts">
        <Schedule schedule={described.schedule} timezone={described.timezone} />
        {next.value && (
          <span>
            <span class="quiet">next </span>
            <Time at={next.value} />
          </span>
        )}
        {described.tags.map((tag) => (
          <span class="tag" key={tag}>
            <bdi>{tag}</bdi>
          </span>
        ))}
        <span class="acts">
          <ExecuteButton job={job.name} params={params} onDone={() => pickExecution(null)} />
          <Switch job={job} />
        </span>
      </div>
    </>
  );
}

const picks = new Map<string, ReadonlySignal<boolean>>();

/** Whether an execution is the selected one, as a cell: a new choice redraws two columns. */
function picked(id: string): ReadonlySignal<boolean> {
  let cell = picks.get(id);
  if (!cell) picks.set(id, (cell = computed(() => selectedId.value === id)));
  return cell;
}

function Grid({ tasks }: { tasks: string[] }) {
  return (
    <div class="grid">
      <div class="line whole">
        <span class="label">all tasks</span>
        <Lazy class="marks">{() => <WholeMarks />}</Lazy>
      </div>
      {tasks.map((name) => (
        <div class="line" key={name} data-row={name}>
          <span class="label">
            <button type="button" class="plain" onClick={() => pickTask(name)}>
              <Name text={name} />
            </button>
          </span>
          <Lazy class="marks">{() => <TaskMarks task={name} />}</Lazy>
        </div>
      ))}
    </div>
  );
}

function WholeMarks() {
  const executions = shown(job.executions.value);
  if (!executions.length) return <span class="quiet">none yet</span>;
  return (
    <>
      <Tally cells={executions.map((execution) => execution.state)} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.state}
          about={new Date(execution.submitted).toLocaleString()}
          picked={picked(execution.id)}
          focusable
          onPick={() => pickExecution(execution.id)}
        />
      ))}
    </>
  );
}

function TaskMarks({ task }: { task: string }) {
  const executions = shown(job.executions.value);
  return (
    <>
      <Tally cells={executions.map((execution) => execution.task(task))} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.task(task)}
          about={new Date(execution.submitted).toLocaleString()}
          picked={picked(execution.id)}
          onPick={() => {
            pickExecution(execution.id);
            pickTask(task);
          }}
        />
      ))}
    </>
  );
}

function Selected({ described }: { described: api.JobDescription }) {
  const cell = selected.value;
  const held = detail.value?.id === cell?.id ? detail.value : null;
  // An execution keeps the graph it ran with, which may not be the job's of today.
  const shape = useMemo(
    () =>
      held?.dag ? { tasks: held.tasks.map(({ name }) => name), dag: held.dag } : { tasks: described.tasks, dag: described.dag },
    [described, held && JSON.stringify([held.dag, held.tasks.map(({ name }) => name)])],
  );
  return (
    <section aria-label="Execution" class="execution">
      {cell ? <ExecutionBar cell={cell} /> : <h2>Graph</h2>}
      <Graph
        tasks={shape.tasks}
        dag={shape.dag}
        cell={(name) => cell?.task(name)}
        selected={task.value}
        onPick={(name) => pickTask(name === task.peek() ? null : name)}
      />
      {cell && held && <Tasks detail={held} />}
    </section>
  );
}

function ExecutionBar({ cell }: { cell: ExecutionCell }) {
  const state = cell.state.value;
  const { started, finished } = cell.times.value;
  const asked = (what: string) => (answer: { success: boolean }) =>
    answer.success ? `The execution ${what}.` : "Nothing to do: the execution had changed meanwhile.";
  return (
    <div class="bar">
      <h2>Execution</h2>
      <StateLabel state={state} />
      <span>
        <span class="quiet">submitted </span>
        <Time at={cell.submitted} />
      </span>
      {cell.cause.value && (
        <span>
          <span class="quiet">by </span>
          {cell.cause.value}
        </span>
      )}
      {started && finished && (
        <span>
          <span class="quiet">took </span>
          {span(Date.parse(finished) - Date.parse(started))}
        </span>
      )}
      <code class="quiet id">{cell.id}</code>
      <span class="acts">
        {pinned.value !== null && (
          <button type="button" class="plain" onClick={() => pickExecution(null)}>
            Follow the newest
          </button>
        )}
        {!isFinished(state) && (
          <button
            type="button"
            class="act"
            onClick={() => void attempt(api.cancel(cell.id), asked("is being cancelled"), "Not cancelled")}
          >
            Cancel
          </button>
        )}
        {(state === "failed" || state === "cancelled") && (
          <button
            type="button"
            class="act"
            onClick={() => void attempt(api.retry(cell.id), asked("runs again where it had not succeeded"), "Not retried")}
          >
            Retry
          </button>
        )}
      </span>
    </div>
  );
}

function Tasks({ detail }: { detail: api.ExecutionDetail }) {
  return (
    <div class="tasks">
      {detail.tasks.map((row) => (
        <div class={`task${row.name === task.value ? " open" : ""}`} key={row.name} data-detail={row.name}>
          <button
            type="button"
            class="summary"
            aria-expanded={row.name === task.value}
            onClick={() => pickTask(row.name === task.peek() ? null : row.name)}
          >
            <span class={`mark ${row.state}`}>
              <Sign state={row.state} />
            </span>
            <Name text={row.name} />
            <span class="quiet took">{took(row)}</span>
            {row.error && <span class="brief">{row.error.trim().split("\n").at(-1)}</span>}
          </button>
          {row.name === task.value && <TaskInFull id={detail.id} row={row} />}
        </div>
      ))}
    </div>
  );
}

/** How long a task took, and in how many attempts if in more than one. */
function took(row: api.TaskDetail): string {
  const parts: string[] = [];
  if (row.started && row.finished) parts.push(span(Date.parse(row.finished) - Date.parse(row.started)));
  if (row.attempts.length > 1) parts.push(`${row.attempts.length} attempts`);
  return parts.join(", ");
}

function TaskInFull({ id, row }: { id: string; row: api.TaskDetail }) {
  return (
    <div class="full">
      {row.attempts.length === 0 && <p class="quiet">No attempt was made.</p>}
      {row.attempts.length > 0 && (
        <ol class="attempts" aria-label="Attempts">
          {row.attempts.map((one) => (
            <li key={one.attempt}>
              <span class="quiet">Attempt {one.attempt}</span>
              <StateLabel state={one.state} />
              <span>
                <span class="quiet">started </span>
                <Time at={one.started} />
              </span>
              {one.finished && (
                <span>
                  <span class="quiet">took </span>
                  {span(Date.parse(one.finished) - Date.parse(one.started))}
                </span>
              )}
            </li>
          ))}
        </ol>
      )}
      {row.error && (
        <>
          <h3>Error</h3>
          <pre class="error">{row.error}</pre>
        </>
      )}
      {row.result !== null && row.result !== undefined && (
        <>
          <h3>Result</h3>
          <pre>{typeof row.result === "string" ? row.result : JSON.stringify(row.result, null, 2)}</pre>
        </>
      )}
      {row.attempts.length > 0 && (
        <Log key={`${id} ${row.name}`} id={id} task={row.name} attempts={row.attempts} about={quoted(row.name)} />
      )}
    </div>
  );
}
