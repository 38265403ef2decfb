/** The selected task: state, attempts, error, log and result. */

import { useState } from "preact/hooks";
import { choose, chosen } from "../../app/router";
import { second } from "../../app/clock";
import { beginning, failureOf, resultText } from "../../model/failure";
import { countsText, yieldedText, type Counts } from "../../model/items";
import { allowedActions } from "../../model/actions";
import type { LiveExecution } from "../../model/live";
import { costTexts } from "../../model/progress";
import { bytes } from "../../model/series";
import { LABEL } from "../../model/states";
import { elapsed, span } from "../../model/time";
import { Copy } from "../../components/copy";
import { Name } from "../../components/name";
import { Progress } from "../../components/progress";
import { Sign, StateLabel } from "../../components/state";
import { Countdown, Time } from "../../components/time";
import { Waits } from "../../components/waits";
import { artifactAddress, getResult, resultAddress, type Artifact, type Attempt, type ExecutionDetail, type TaskDescription, type TaskDetail } from "../../api/client";
import type { Cost } from "../../api/schema";
import { hookRetry, REMOVED, taskAction } from "./actions";
import { Children } from "./children";
import { Items } from "./items";
import { Log } from "./log";

export function TaskPart(props: {
  detail: ExecutionDetail;
  task: TaskDetail;
  described: TaskDescription | undefined;
  gone: boolean;
  /** Whether the execution goes on without it. */
  dropped: boolean;
  /** The counts of a mapped task's items, once they are known. */
  counts: Counts | null;
  /** The state of the execution, which has the progress of its tasks. */
  cell: LiveExecution | null;
}) {
  const { detail, task, described, gone, counts, cell } = props;
  const bar = task.state === "running" ? (cell?.progress(task.name).value ?? task.progress) : null;
  const mapped = task.map_over !== undefined;
  const { attempts } = task;
  const children = detail.children.filter((child) => child.task === task.name);
  const wanted = mapped ? NaN : Number(chosen("attempt")); // of a mapped task, it is the attempt of an item
  const shown = attempts.find(({ attempt }) => attempt === wanted) ?? attempts.at(-1);
  const newest = shown === attempts.at(-1);
  return (
    <section class="card task-part" data-detail={task.name} aria-label={`${task.hook === undefined ? "Task" : "Hook"} ${task.name}`}>
      <header class="bar">
        <h2>
          <Name text={task.name} />
        </h2>
        <StateLabel state={task.state} />
        {counts && <span class="counts">{countsText(counts)}</span>}
        {task.yielded !== undefined && <span class="counts">{yieldedText(task.yielded)}</span>}
        {described && <Rules described={described} />}
        {!props.dropped && <TaskActions detail={detail} task={task} gone={gone} />}
      </header>
      {task.state === "upforretry" && shown?.retry_at && (
        <p class="waits">
          The next attempt is due <Countdown to={shown.retry_at} />.
        </p>
      )}
      {task.waiting && (
        <p class="waits">
          Waiting: <Waits on={task.waiting} />.
        </p>
      )}
      {bar && (
        <p class="waits">
          <Progress bar={bar} of={`task ${task.name}`} />
        </p>
      )}
      {task.skip?.why && (
        <p class="waits">
          Skipped: <Name text={task.skip.why} />.
        </p>
      )}
      {task.chosen !== undefined && (
        <p class="waits">{task.chosen.length === 0 ? "Chose no task." : <>Chose <Name text={task.chosen.join(", ")} />.</>}</p>
      )}
      {children.length > 0 && <Children started={children} />}
      {attempts.length === 0 && !task.waiting && !task.skip?.why && (
        <p class="quiet none">{task.state === "notstarted" ? "Not started: waiting for upstream tasks." : "No attempts."}</p>
      )}
      {shown && !mapped && <Attempts attempts={attempts} shown={shown} />}
      {mapped ? task.cost && <Costs cost={task.cost} of="all items" /> : shown?.cost && <Costs cost={shown.cost} of={`attempt ${shown.attempt}`} />}
      {!mapped && attempts.length > 1 && task.cost && <Costs cost={task.cost} of="all attempts" />}
      {shown?.error && <Failed key={shown.attempt} error={shown.error} />}
      {shown?.on_retry_error && (
        <p class="why">
          Its on_retry failed: <Name text={failureOf(shown.on_retry_error).message.split("\n", 1)[0]!} />
        </p>
      )}
      {mapped && counts && <Items detail={detail} task={task} counts={counts} gone={gone} dropped={props.dropped} news={cell?.news.value ?? 0} />}
      {shown && !mapped && (
        <Log
          key={`${detail.id} ${shown.attempt} ${task.name}`}
          id={detail.id}
          task={task.name}
          attempt={shown.attempt}
          failed={shown.state === "failed"}
        />
      )}
      {newest && shown && task.artifacts && <Artifacts id={detail.id} task={task.name} artifacts={task.artifacts} />}
      {newest && shown && task.result_bytes > 0 && <Result key={`${shown.attempt} ${task.name}`} id={detail.id} task={task} attempt={shown.attempt} />}
    </section>
  );
}

/** Operator, trigger rule and limits, from the current definition of the job. */
function Rules({ described }: { described: TaskDescription }) {
  const { operator, trigger_rule, retries, timeout, pool } = described;
  const facts = [
    operator,
    trigger_rule !== "allSuccessful" && `trigger rule ${trigger_rule}`,
    retries > 0 && `${retries} ${retries === 1 ? "retry" : "retries"}`,
    timeout !== null && `timeout ${span(timeout * 1000)}`,
    pool !== null && `pool ${pool}`,
  ].filter((fact): fact is string => Boolean(fact));
  return <span class="quiet rules">{facts.join(" · ")}</span>;
}

function TaskActions({ detail, task, gone }: { detail: ExecutionDetail; task: TaskDetail; gone: boolean }) {
  const any = allowedActions(detail.state, task.state, (detail.dag?.[task.name] ?? []).length > 0, typeof task.waiting === "object" && task.waiting !== null);
  const ran = task.attempts.length > 0;
  const may = task.hook === undefined ? any : any.filter((handle) => handle === "cancel" || (handle === "retry" && ran));
  if (!may.length) return null;
  return (
    <span class="button-row">
      {may.map((handle) => {
        const { label, act } = task.hook === undefined || handle !== "retry" ? taskAction(handle, detail, task.name) : hookRetry(detail, task.name);
        const off = gone && handle.startsWith("retry");
        return (
          <button type="button" class="button small" key={handle} disabled={off} title={off ? REMOVED : undefined} onClick={() => void act()}>
            {label}
          </button>
        );
      })}
    </span>
  );
}

/** The attempts. The URL has the number of the selected one. */
function Attempts({ attempts, shown }: { attempts: Attempt[]; shown: Attempt }) {
  return (
    <div class="attempts" role="group" aria-label="Attempts">
      {attempts.map((one) => (
        <button
          type="button"
          key={one.attempt}
          class="attempt"
          aria-pressed={one === shown}
          data-state={one.state}
          onClick={() => choose({ attempt: one === attempts.at(-1) ? null : String(one.attempt), line: null })}
        >
          <span class={`mark ${one.state}`}>
            <Sign state={one.state} />
          </span>
          Attempt {one.attempt}
          <span class="visually-hidden"> {LABEL[one.state]}</span>
          <span class="quiet">
            <Time at={one.started} />
            {", "}
            <Lasted from={one.started} to={one.finished} />
          </span>
        </button>
      ))}
    </div>
  );
}

/** The cost of attempts; the counts of several are of those that succeeded. */
export function Costs({ cost, of }: { cost: Cost; of: string }) {
  const texts = costTexts(cost);
  if (!texts.length) return null;
  return (
    <div class="costs" role="group" aria-label={`Cost of ${of}`}>
      <span class="quiet">Cost of {of}:</span>
      <dl>
        {texts.map(({ name, amount }) => (
          <div key={name}>
            <dt class="quiet">
              <Name text={name} />
            </dt>
            <dd>{amount}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

/** A duration, or the time elapsed so far. */
export function Lasted({ from, to }: { from: string; to: string | null }) {
  if (to !== null) return <>{span(Date.parse(to) - Date.parse(from))}</>;
  return <>{elapsed(second.value - Date.parse(from))}</>;
}

export function Failed({ error }: { error: string }) {
  const { message, trace } = failureOf(error);
  return (
    <div class="error-part" role="group" aria-label="Error">
      <pre class="error" tabIndex={0}>
        {message}
      </pre>
      <Copy text={error} what="the error" />
      {trace && (
        <details>
          <summary>Traceback</summary>
          <pre tabIndex={0}>{trace}</pre>
        </details>
      )}
    </div>
  );
}

/** The files that an attempt of the task, or of one item of it, has left. */
export function Artifacts(props: { id: string; task: string; artifacts: readonly Artifact[]; item?: number }) {
  const { id, task, artifacts, item } = props;
  return (
    <div class="artifacts-part" role="group" aria-label="Artifacts">
      <h3>Artifacts</h3>
      <ul>
        {artifacts.map(({ name, size }) => (
          <li key={name}>
            <a href={artifactAddress(id, task, name, item)} download={name}>
              <Name text={name} />
            </a>
            <span class="quiet"> {bytes(size)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

const MAX_SHOWN = 8 * 1024 * 1024; // bytes; a larger result can only be downloaded

/** The result of the task, or of one item of it. A large one is loaded on demand. */
export function Result(props: { id: string; task: Pick<TaskDetail, "name" | "result" | "result_bytes">; attempt: number; item?: number }) {
  const { id, task, attempt, item } = props;
  const [fetched, setFetched] = useState<{ result: unknown } | null>(null);
  const [busy, setBusy] = useState(false);
  const [failure, fail] = useState("");
  const { name, result, result_bytes } = task;
  const held = fetched ?? (result === null ? null : { result });
  const fetchIt = async () => {
    setBusy(true);
    fail("");
    try {
      setFetched({ result: await getResult(id, name, attempt, item) });
    } catch (error) {
      fail((error as Error).message);
    }
    setBusy(false);
  };
  return (
    <div class="result-part">
      <div class="bar">
        <h3>Result</h3>
        {held ? <Copy text={resultText(held.result)} what="the result" /> : <span class="quiet">{bytes(result_bytes)}</span>}
        {!held && (
          <span class="button-row">
            {result_bytes <= MAX_SHOWN && (
              <button type="button" class="button small" disabled={busy} onClick={() => void fetchIt()}>
                Show the result
              </button>
            )}
            <a class="button small" href={resultAddress(id, name, attempt, item)} download={`${name}-${item === undefined ? "" : `${item}-`}${attempt}.json`}>
              Download
            </a>
          </span>
        )}
      </div>
      {failure && (
        <p class="failure" role="alert">
          The result could not be loaded: {failure}.
        </p>
      )}
      {held && <ResultText text={resultText(held.result)} />}
    </div>
  );
}

function ResultText({ text }: { text: string }) {
  const [whole, showWhole] = useState(false);
  const some = beginning(text);
  return (
    <>
      <pre tabIndex={0}>{whole ? text : some}</pre>
      {!whole && some.length < text.length && (
        <button type="button" class="button small" onClick={() => showWhole(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  );
}
