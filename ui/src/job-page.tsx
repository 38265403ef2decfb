/** One job: its tasks over the last executions, one execution in full, and its due times. */

import { useComputed } from "@preact/signals";
import { useMemo } from "preact/hooks";
import * as api from "./api";
import type { ExecutionCell } from "./board";
import { DueTimes } from "./due-times";
import { Graph } from "./graph";
import { doneByHand, handles, said, type Handle } from "./hands";
import type { JobView } from "./job-view";
import { Log } from "./log";
import { attempt, quoted } from "./notice";
import { parsed } from "./parameters";
import { Parameters, written } from "./parameters-form";
import {
  ExecuteButton,
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

export function JobPage({ view }: { view: JobView }) {
  const described = view.description.value;
  if (view.missing.value)
    return (
      <p class="empty">
        There is no job named {"“"}
        <Name text={view.name} />
        {"”"}. <a href="./">All jobs</a>
      </p>
    );
  return (
    <>
      <header class="top">
        <h1>
          <Name text={view.name} />
        </h1>
        {described && <Facts view={view} described={described} />}
      </header>
      {view.failure.value && <p class="failure">Not all could be loaded: {view.failure.value}.</p>}
      {described && (
        <>
          {described.params && Object.keys(described.params).length > 0 && <Parameters params={described.params} />}
          <section aria-label="Executions">
            <div class="bar">
              <h2>Executions</h2>
              <span class="quiet">newest first</span>
              <LastSelector onChange={() => void view.load()} />
            </div>
            <Grid view={view} tasks={described.tasks} />
          </section>
          <Selected view={view} described={described} />
          <DueTimes view={view} />
        </>
      )}
    </>
  );
}

function Facts({ view, described }: { view: JobView; described: api.JobDescription }) {
  const { active, next } = view.cell;
  const due = useComputed(() => (active.value ? next.value : null));
  const params = () => {
    const { params } = described;
    return params && Object.keys(params).length ? parsed(params, written.peek()) : undefined;
  };
  return (
    <>
      {described.description && <p class="quiet description">{described.description}</p>}
      <div class="facts">
        <Schedule schedule={described.schedule} timezone={described.timezone} />
        {due.value && (
          <span>
            <span class="quiet">next </span>
            <Time at={due.value} />
          </span>
        )}
        {described.tags.map((tag) => (
          <span class="tag" key={tag}>
            <bdi>{tag}</bdi>
          </span>
        ))}
        <span class="acts">
          <ExecuteButton job={view.name} params={params} onDone={() => view.pickExecution(null)} />
          <Switch job={view.cell} />
        </span>
      </div>
    </>
  );
}

function Grid({ view, tasks }: { view: JobView; tasks: string[] }) {
  return (
    <div class="grid">
      <div class="line whole">
        <span class="label">all tasks</span>
        <Lazy class="marks">{() => <WholeMarks view={view} />}</Lazy>
      </div>
      {tasks.map((name) => (
        <div class="line" key={name} data-row={name}>
          <span class="label">
            <button type="button" class="plain" onClick={() => view.pickTask(name)}>
              <Name text={name} />
            </button>
          </span>
          <Lazy class="marks">{() => <TaskMarks view={view} task={name} />}</Lazy>
        </div>
      ))}
    </div>
  );
}

function WholeMarks({ view }: { view: JobView }) {
  const executions = shown(view.cell.executions.value);
  if (!executions.length) return <span class="quiet">none yet</span>;
  return (
    <>
      <Tally cells={executions.map((execution) => execution.state)} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.state}
          about={new Date(execution.submitted).toLocaleString()}
          picked={view.isPicked(execution.id)}
          focusable
          onPick={() => view.pickExecution(execution.id)}
        />
      ))}
    </>
  );
}

function TaskMarks({ view, task }: { view: JobView; task: string }) {
  const executions = shown(view.cell.executions.value);
  return (
    <>
      <Tally cells={executions.map((execution) => execution.task(task))} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.task(task)}
          about={new Date(execution.submitted).toLocaleString()}
          picked={view.isPicked(execution.id)}
          onPick={() => {
            view.pickExecution(execution.id);
            view.pickTask(task);
          }}
        />
      ))}
    </>
  );
}

function Selected({ view, described }: { view: JobView; described: api.JobDescription }) {
  const cell = view.selected.value;
  const detail = view.detail.value;
  const held = detail?.id === cell?.id ? detail : null;
  // An execution keeps the graph it ran with, which may not be the job's of today.
  const shape = useMemo(
    () =>
      held?.dag ? { tasks: held.tasks.map(({ name }) => name), dag: held.dag } : { tasks: described.tasks, dag: described.dag },
    [described, held && JSON.stringify([held.dag, held.tasks.map(({ name }) => name)])],
  );
  return (
    <section aria-label="Execution" class="execution">
      {cell ? <ExecutionBar view={view} cell={cell} /> : <h2>Graph</h2>}
      {held && <Circumstances view={view} detail={held} />}
      <Graph
        tasks={shape.tasks}
        dag={shape.dag}
        cell={(name) => cell?.task(name)}
        selected={view.task.value}
        onPick={(name) => view.pickTask(name === view.task.peek() ? null : name)}
      />
      {cell && held && <Tasks view={view} detail={held} />}
    </section>
  );
}

function ExecutionBar({ view, cell }: { view: JobView; cell: ExecutionCell }) {
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
        {view.pinned.value !== null && (
          <button type="button" class="plain" onClick={() => view.pickExecution(null)}>
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

const MANY = 5; // executions waited for, and things done by hand, before a number stands for the rest

/** Why the execution is as it is: what failed it, what it waits for, who did what. */
function Circumstances({ view, detail }: { view: JobView; detail: api.ExecutionDetail }) {
  const waits = detail.state === "notstarted" ? detail.after : [];
  const done = doneByHand(detail.actions);
  return (
    <>
      {detail.reason && <p class="why">It {detail.reason}.</p>}
      {waits.length > 0 && (
        <p class="waits">
          Waits for the end of{" "}
          {waits.slice(0, MANY).map((id) => (
            <button type="button" class="plain id" key={id} onClick={() => view.pickExecution(id)}>
              <code>{id}</code>
            </button>
          ))}
          {waits.length > MANY && ` and ${waits.length - MANY} more`}
        </p>
      )}
      {done.length > 0 && (
        <ul class="actions" aria-label="Done by hand">
          {done.length > MANY && <li>{done.length - MANY} more before</li>}
          {done.slice(-MANY).map((one) => (
            <li key={`${one.at} ${one.action} ${one.task}`}>
              <Time at={one.at} /> {one.task === null ? "execution" : <Name text={one.task} />} {said(one)}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Tasks({ view, detail }: { view: JobView; detail: api.ExecutionDetail }) {
  const open = view.task.value;
  return (
    <div class="tasks">
      {detail.tasks.map((row) => (
        <div class={`task${row.name === open ? " open" : ""}`} key={row.name} data-detail={row.name}>
          <button
            type="button"
            class="summary"
            aria-expanded={row.name === open}
            onClick={() => view.pickTask(row.name === open ? null : row.name)}
          >
            <span class={`mark ${row.state}`}>
              <Sign state={row.state} />
            </span>
            <Name text={row.name} />
            <span class="quiet took">{took(row)}</span>
            {row.error && <span class="brief">{row.error.trim().split("\n").at(-1)}</span>}
            {row.waiting && row.name !== open && <span class="brief waits">waits: {row.waiting}</span>}
          </button>
          {row.name === open && <TaskInFull detail={detail} row={row} />}
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

/** What may be done with a task by hand. */
function Handles({ detail, row }: { detail: api.ExecutionDetail; row: api.TaskDetail }) {
  const { id } = detail;
  const task = quoted(row.name);
  const act: Record<Handle, [label: string, action: () => void]> = {
    cancel: [
      "Cancel task",
      () =>
        void attempt(
          api.cancelTask(id, row.name),
          ({ success }) => (success ? `${task} is being cancelled.` : `Nothing to do: ${task} had ended or was ending.`),
          `${task} was not cancelled`,
        ),
    ],
    retry: [
      "Retry from here",
      () =>
        void attempt(api.retryTask(id, row.name, true), () => `${task} and all that follows run again.`, `${task} was not retried`),
    ],
    "retry alone": [
      "Retry only this",
      () => void attempt(api.retryTask(id, row.name, false), () => `${task} alone runs again.`, `${task} was not retried`),
    ],
    "mark successful": [
      "Mark successful",
      () => void attempt(api.mark(id, row.name, "successful"), () => `${task} counts as successful.`, `${task} was not marked`),
    ],
    "mark skipped": [
      "Mark skipped",
      () => void attempt(api.mark(id, row.name, "skipped"), () => `${task} counts as skipped.`, `${task} was not marked`),
    ],
  };
  const may = handles(detail.state, row.state, (detail.dag?.[row.name] ?? []).length > 0);
  if (!may.length) return null;
  return (
    <div class="handles">
      {may.map((handle) => {
        const [label, action] = act[handle];
        return (
          <button type="button" class="act" key={handle} onClick={action}>
            {label}
          </button>
        );
      })}
    </div>
  );
}

function TaskInFull({ detail, row }: { detail: api.ExecutionDetail; row: api.TaskDetail }) {
  const { id } = detail;
  return (
    <div class="full">
      <Handles detail={detail} row={row} />
      {row.waiting && <p class="waits">Waits: {row.waiting}.</p>}
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
