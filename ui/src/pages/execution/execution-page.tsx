/** One execution: how it stands, its graph, and each task with its attempts, result and log. */

import { useEffect, useMemo } from "preact/hooks";
import { attempt, quoted } from "../../app/notices";
import { executionHref, jobHref } from "../../app/route";
import { doneByHand, handles, said, type Handle } from "../../model/hands";
import { isFinished } from "../../model/states";
import { span } from "../../model/time";
import { Graph } from "../../pieces/graph";
import { Name } from "../../pieces/name";
import { Sign, StateLabel } from "../../pieces/state";
import { JobZone, Time } from "../../pieces/time";
import * as api from "../../wire/api";
import { ExecutionView } from "./execution-view";
import { Log } from "./log";
import "./execution-page.css";

export function ExecutionPage({ id }: { id: string }) {
  const view = useMemo(() => new ExecutionView(id), [id]);
  useEffect(() => view.start(), [view]);
  const detail = view.detail.value;
  if (view.missing.value)
    return (
      <p class="empty">
        There is no execution with this id; it may have been forgotten since. <a href="./">All jobs</a>
      </p>
    );
  return (
    <JobZone.Provider value={view.timezone.value}>
      {view.failure.value && <p class="failure">Not all could be loaded: {view.failure.value}.</p>}
      {detail && (
        <>
          <ExecutionBar detail={detail} />
          <Circumstances detail={detail} />
          <Graph
            tasks={view.tasks.value}
            dag={view.dag.value}
            cell={(name) => view.cell.value?.task(name)}
            selected={view.task()}
            onPick={(name) => view.pick(name === view.task() ? null : name)}
          />
          <Tasks view={view} detail={detail} />
        </>
      )}
    </JobZone.Provider>
  );
}

function ExecutionBar({ detail }: { detail: api.ExecutionDetail }) {
  const { id, state, started, finished } = detail;
  const asked = (what: string) => (answer: { success: boolean }) =>
    answer.success ? `The execution ${what}.` : "Nothing to do: the execution had changed meanwhile.";
  return (
    <header class="top">
      <h1>
        <a href={jobHref(detail.job)}>
          <Name text={detail.job} />
        </a>
      </h1>
      <div class="facts">
        <StateLabel state={state} />
        <span>
          <span class="quiet">submitted </span>
          <Time at={detail.submitted} />
        </span>
        {detail.cause && (
          <span>
            <span class="quiet">by </span>
            {detail.cause}
          </span>
        )}
        {started && finished && (
          <span>
            <span class="quiet">took </span>
            {span(Date.parse(finished) - Date.parse(started))}
          </span>
        )}
        <code class="quiet id">{id}</code>
        <span class="acts">
          {!isFinished(state) && (
            <button
              type="button"
              class="act"
              onClick={() => void attempt(api.cancel(id), asked("is being cancelled"), "Not cancelled")}
            >
              Cancel
            </button>
          )}
          {(state === "failed" || state === "cancelled") && (
            <button
              type="button"
              class="act"
              onClick={() => void attempt(api.retry(id), asked("runs again where it had not succeeded"), "Not retried")}
            >
              Retry
            </button>
          )}
        </span>
      </div>
    </header>
  );
}

const MANY = 5; // executions waited for, and things done by hand, before a number stands for the rest

/** Why the execution is as it is: what failed it, what it waits for, who did what. */
function Circumstances({ detail }: { detail: api.ExecutionDetail }) {
  const waits = detail.state === "notstarted" ? detail.after : [];
  const done = doneByHand(detail.actions);
  return (
    <>
      {detail.reason && <p class="why">It {detail.reason}.</p>}
      {waits.length > 0 && (
        <p class="waits">
          Waits for the end of{" "}
          {waits.slice(0, MANY).map((id) => (
            <a class="id" key={id} href={executionHref(id)}>
              <code>{id}</code>
            </a>
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

function Tasks({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  const open = view.task();
  return (
    <div class="tasks">
      {detail.tasks.map((row) => (
        <div class={`task${row.name === open ? " open" : ""}`} key={row.name} data-detail={row.name}>
          <button
            type="button"
            class="summary"
            aria-expanded={row.name === open}
            onClick={() => view.pick(row.name === open ? null : row.name)}
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
        void attempt(api.retry(id, { task: row.name }), () => `${task} and all that follows run again.`, `${task} was not retried`),
    ],
    "retry alone": [
      "Retry only this",
      () => void attempt(api.retry(id, { task: row.name, following: false }), () => `${task} alone runs again.`, `${task} was not retried`),
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
