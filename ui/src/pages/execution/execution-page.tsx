/** The page of an execution: its state and reasons, graph and timeline, and the selected task with its log. */

import { useEffect, useMemo } from "preact/hooks";
import { useKeys } from "../../app/keys";
import { executionHref, jobHref } from "../../app/route";
import { go } from "../../app/router";
import { failureOf } from "../../model/failure";
import { manualActions, describeAction } from "../../model/actions";
import type { Counts } from "../../model/items";
import { write } from "../../model/json";
import { asText } from "../../model/parameters";
import { isFinished } from "../../model/states";
import { Copy } from "../../components/copy";
import { Graph } from "../../components/graph";
import { Name } from "../../components/name";
import { StateLabel } from "../../components/state";
import { JobZone, Time } from "../../components/time";
import * as api from "../../api/client";
import { cancelExecution, clone, REMOVED, retryFailed, retryWith } from "./actions";
import { Children } from "./children";
import { ExecutionView, failedIn } from "./execution-view";
import { Gantt } from "./gantt";
import { SharedState } from "./shared-state";
import { Lasted, TaskPart } from "./task-part";
import "./execution-page.css";

export function ExecutionPage({ id }: { id: string }) {
  const view = useMemo(() => new ExecutionView(id), [id]);
  useEffect(() => view.start(), [view]);
  const detail = view.detail.value;
  if (view.missing.value)
    return (
      <p class="empty">
        There is no execution with this id; it may have been deleted. <a href="./">All jobs</a>
      </p>
    );
  return (
    <JobZone.Provider value={view.described.value?.timezone}>
      {view.failure.value && <p class="failure">Some data could not be loaded: {view.failure.value}.</p>}
      {detail && (
        <>
          <Head view={view} detail={detail} />
          <Tasks view={view} detail={detail} />
          <Hooks view={view} />
          <Dropped view={view} detail={detail} />
          <Chosen view={view} detail={detail} />
          <SharedState id={id} dispatched={detail.dispatched} />
        </>
      )}
    </JobZone.Provider>
  );
}

function Head({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  const { id, job, state, started, finished, scheduled_at, submitted } = detail;
  const [before, after] = [view.beside(-1), view.beside(1)];
  const over = isFinished(state);
  const again = state === "failed" || state === "cancelled";
  const takes = Object.keys(detail.params).length > 0;
  const gone = view.gone.value;
  useKeys("This execution", [
    ...(over ? [] : [{ key: "c", does: "Cancel", act: () => void cancelExecution(detail) }]),
    ...(again && !gone ? [{ key: "r", does: "Retry unsuccessful tasks", act: () => void retryFailed(detail) }] : []),
    ...(again && takes && !gone ? [{ key: "R", does: "Retry with different parameters", act: () => void retryWith(detail) }] : []),
    ...(gone ? [] : [{ key: "x", does: "Clone: run the job with these or different parameters", act: () => void clone(detail) }]),
    ...(before ? [{ key: "[", does: "Previous execution", act: () => go(executionHref(before)) }] : []),
    ...(after ? [{ key: "]", does: "Next execution", act: () => go(executionHref(after)) }] : []),
  ]);
  const asker = detail.actions.find(({ action }) => action === "submit")?.by;
  return (
    <header class="top">
      <h1>
        <a href={jobHref(job)}>
          <Name text={job} />
        </a>
      </h1>
      <StateLabel state={state} />
      <span class="button-row">
        <nav class="beside" aria-label="Executions of the job">
          <Beside to={before} label="Previous execution" title="Previous execution ( [ )" path="M7.5 2.5L4 6l3.5 3.5" />
          <Beside to={after} label="Next execution" title="Next execution ( ] )" path="M4.5 2.5L8 6 4.5 9.5" />
        </nav>
        {!over && (
          <button type="button" class="button" title="Cancel (c)" onClick={() => void cancelExecution(detail)}>
            Cancel
          </button>
        )}
        {again && (
          <button
            type="button"
            class="button main"
            disabled={gone}
            title={gone ? REMOVED : "Retry unsuccessful tasks (r)"}
            onClick={() => void retryFailed(detail)}
          >
            Retry
          </button>
        )}
        {again && takes && (
          <button
            type="button"
            class="button"
            disabled={gone}
            title={gone ? REMOVED : "Retry with different parameters (R)"}
            onClick={() => void retryWith(detail)}
          >
            Retry with…
          </button>
        )}
        <button
          type="button"
          class="button"
          disabled={gone}
          title={gone ? REMOVED : "Run the job with these or different parameters (x)"}
          onClick={() => void clone(detail)}
        >
          Clone…
        </button>
      </span>
      <div class="facts">
        <span class="fact">
          <span class="quiet">{over ? "took " : started ? "running for " : "waiting for "}</span>
          <span class="count">
            {started ? <Lasted from={started} to={finished ?? null} /> : <Lasted from={submitted} to={finished ?? null} />}
          </span>
        </span>
        {detail.interval_end && (
          <span>
            interval {detail.interval_start ? <Time at={detail.interval_start} /> : "from the beginning"} to <Time at={detail.interval_end} />
          </span>
        )}
        {scheduled_at && (
          <span class="fact">
            <span class="quiet">due </span>
            <Time at={scheduled_at} />
          </span>
        )}
        <span class="fact">
          <span class="quiet">submitted </span>
          <Time at={submitted} />
        </span>
        {started && (
          <span class="fact">
            <span class="quiet">started </span>
            <Time at={started} />
          </span>
        )}
        <span class="fact">
          <span class="quiet">by </span>
          {detail.cause === "after" ? "the success of another job" : detail.cause}
          {asker && <span class="quiet"> from {asker}</span>}
        </span>
        <span class="fact">
          <code class="quiet id">{id}</code>
          <Copy text={id} what="the id" />
        </span>
      </div>
      {takes && <Parameters params={detail.params} />}
      <Circumstances view={view} detail={detail} />
    </header>
  );
}

function Beside({ to, label, title, path }: { to: string | null; label: string; title: string; path: string }) {
  const arrow = (
    <svg viewBox="0 0 12 12" aria-hidden="true">
      <path d={path} />
    </svg>
  );
  if (to === null)
    return (
      <span class="icon off" aria-hidden="true">
        {arrow}
      </span>
    );
  return (
    <a class="icon" href={executionHref(to)} aria-label={label} title={title}>
      {arrow}
    </a>
  );
}

function Parameters({ params }: { params: Record<string, unknown> }) {
  return (
    <div class="params" role="group" aria-label="Parameters">
      <dl>
        {Object.entries(params).map(([name, value]) => (
          <div key={name}>
            <dt>
              <Name text={name} />
            </dt>
            <dd>
              <code>
                <Name text={asText(value)} />
              </code>
            </dd>
          </div>
        ))}
      </dl>
      <Copy text={write(params, 2)} what="the parameters" />
    </div>
  );
}

const MANY = 5; // executions waited for, and manual actions, that are listed

/** The reasons for the state: failures, executions waited for, and manual actions. */
function Circumstances({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  const waits = detail.state === "notstarted" ? detail.after : [];
  const done = manualActions(detail.actions);
  const why = detail.tasks.find(({ waiting }) => waiting !== null)?.waiting;
  return (
    <>
      {detail.reason && <p class="why">It {detail.reason}.</p>}
      {view.gone.value && (
        <p class="gone" role="note">
          {REMOVED}.
        </p>
      )}
      <FirstFailure view={view} detail={detail} />
      {detail.parent && (
        <p class="waits">
          Started by task <Name text={detail.parent.task} /> of{" "}
          <a class="id" href={executionHref(detail.parent.execution)}>
            <code>{detail.parent.execution}</code>
          </a>
        </p>
      )}
      {detail.children.length > 0 && <Children started={detail.children} />}
      {waits.length > 0 && (
        <p class="waits">
          Waiting for{" "}
          {waits.slice(0, MANY).map((id) => (
            <a class="id" key={id} href={executionHref(id)}>
              <code>{id}</code>
            </a>
          ))}
          {waits.length > MANY && ` and ${waits.length - MANY} more`}
          {typeof why === "string" && `: ${why}`}
        </p>
      )}
      {done.length > 0 && (
        <ul class="actions" aria-label="Done by hand">
          {done.length > MANY && <li>{done.length - MANY} earlier</li>}
          {done.slice(-MANY).map((one) => (
            <li key={`${one.at} ${one.action} ${one.task}`}>
              <Time at={one.at} /> {one.task === null ? "execution" : <Name text={one.task} />} {describeAction(one)}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** The first failed task and its error, with a link to its log. */
function FirstFailure({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  const failed = failedIn(detail.tasks);
  const first = failed[0];
  if (!first || detail.state !== "failed") return null;
  const message = failureOf(first.error ?? "").message.split("\n", 1)[0]!;
  const show = () => {
    view.pick(first.name);
    // After the render.
    requestAnimationFrame(openLog);
  };
  return (
    <p class="why first">
      <button type="button" class="plain" title="Show its log" onClick={show}>
        <Name text={first.name} /> failed{message && ": "}
        <Name text={message} />
      </button>
      {failed.length > 1 && <span class="quiet"> and {failed.length - 1} more failed</span>}
    </p>
  );
}

/** The graph and the timeline, which share the selection. */
function Tasks({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  const cell = (name: string) => view.cell.value?.task(name);
  const items = (name: string) => view.cell.value?.items(name);
  const choices = useMemo(
    () => Object.fromEntries(detail.tasks.flatMap(({ name, chosen }) => (chosen === undefined ? [] : [[name, chosen]]))),
    [detail.tasks],
  );
  useKeys("Tasks", [
    { key: "j", does: "Next task", act: () => view.step(1) },
    { key: "k", does: "Previous task", act: () => view.step(-1) },
  ]);
  return (
    <div class="pictures">
      <section class="card" aria-label="Graph">
        <Graph
          tasks={view.tasks.value}
          dag={view.dag.value}
          cell={cell}
          items={items}
          choices={choices}
          selected={view.selected.value}
          onPick={(name) => view.pick(name)}
        />
      </section>
      <section class="card" aria-label="Chart of times">
        <Gantt
          tasks={detail.tasks}
          bars={view.bars.value}
          axis={view.axis.value}
          cell={cell}
          items={items}
          progress={(name) => view.cell.value?.progress(name)}
          selected={view.selected.value}
          onPick={(name) => view.pick(name)}
          onOpen={openLog}
        />
      </section>
    </div>
  );
}

/** The hooks, which run when all tasks have ended. */
function Hooks({ view }: { view: ExecutionView }) {
  const hooks = view.hooks.value;
  if (!hooks.length) return null;
  return (
    <section class="card hooks" aria-label="Hooks">
      <h2>Hooks</h2>
      {hooks.map(({ name, state, hook }) => (
        <button type="button" class="attempt hook" key={name} aria-pressed={view.selected.value === name} onClick={() => view.pick(name)}>
          <Name text={name} /> <span class="quiet">on {hook}</span> <StateLabel state={state} />
        </button>
      ))}
    </section>
  );
}

/** The tasks and hooks of earlier definitions that had begun, and are not in the one by which the execution goes on. */
function Dropped({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  if (!detail.dropped.length) return null;
  return (
    <section class="card hooks" aria-label="Dropped tasks">
      <h2>Dropped tasks</h2>
      {detail.dropped.map(({ name, state }) => (
        <button type="button" class="attempt hook" key={name} aria-pressed={view.selected.value === name} onClick={() => view.pick(name)}>
          <Name text={name} /> <StateLabel state={state} />
        </button>
      ))}
    </section>
  );
}

function openLog(): void {
  const log = document.querySelector<HTMLElement>(".log");
  log?.focus({ preventScroll: true });
  log?.scrollIntoView({ block: "nearest" });
}

/** The counts of a mapped task's items. */
function countsOf(view: ExecutionView, task: api.TaskDetail, dropped: boolean): Counts | null {
  if (dropped) return (task.items as Counts | undefined) ?? null;
  return task.hook === undefined ? (view.cell.value?.items(task.name).value ?? null) : null;
}

function Chosen({ view, detail }: { view: ExecutionView; detail: api.ExecutionDetail }) {
  const name = view.selected.value;
  const current = [...detail.tasks, ...detail.hooks].find((one) => one.name === name);
  const task = current ?? detail.dropped.find((one) => one.name === name);
  if (!task) return <p class="empty quiet">Select a task in the graph or the chart, or with j and k, to see its attempts, log and result.</p>;
  return (
    <TaskPart
      detail={detail}
      task={task}
      described={view.described.value?.task_details.find((one) => one.name === name)}
      gone={view.gone.value}
      dropped={!current}
      counts={countsOf(view, task, !current)}
      cell={view.cell.value}
    />
  );
}
