/** The task that is chosen: how it stands and why, its attempts, its error, its log, its result. */

import { useState } from "preact/hooks";
import { choose, chosen } from "../../app/router";
import { second } from "../../app/clock";
import { beginning, failureOf, resultText } from "../../model/failure";
import { handles } from "../../model/hands";
import { LABEL } from "../../model/states";
import { elapsed, span } from "../../model/time";
import { Copy } from "../../pieces/copy";
import { Name } from "../../pieces/name";
import { Sign, StateLabel } from "../../pieces/state";
import { Countdown, Time } from "../../pieces/time";
import type { Attempt, ExecutionDetail, TaskDescription, TaskDetail } from "../../wire/api";
import { handleOf } from "./acts";
import { Log } from "./log";

export function TaskPart(props: { detail: ExecutionDetail; task: TaskDetail; described: TaskDescription | undefined }) {
  const { detail, task, described } = props;
  const { attempts } = task;
  const wanted = Number(chosen("attempt"));
  const shown = attempts.find(({ attempt }) => attempt === wanted) ?? attempts.at(-1);
  const newest = shown === attempts.at(-1);
  return (
    <section class="card task-part" data-detail={task.name} aria-label={`Task ${task.name}`}>
      <header class="bar">
        <h2>
          <Name text={task.name} />
        </h2>
        <StateLabel state={task.state} />
        {described && <Rules described={described} />}
        <Handles detail={detail} task={task} />
      </header>
      {task.state === "upforretry" && shown?.retry_at && (
        <p class="waits">
          Its next attempt is due <Countdown to={shown.retry_at} />.
        </p>
      )}
      {task.waiting && <p class="waits">Waits: {task.waiting}.</p>}
      {attempts.length === 0 && !task.waiting && (
        <p class="quiet none">{task.state === "notstarted" ? "It has not begun: it waits for the tasks before it." : "No attempt was made."}</p>
      )}
      {shown && <Attempts attempts={attempts} shown={shown} />}
      {shown?.error && <Failed key={shown.attempt} error={shown.error} />}
      {shown && (
        <Log
          key={`${detail.id} ${shown.attempt} ${task.name}`}
          id={detail.id}
          task={task.name}
          attempt={shown.attempt}
          failed={shown.state === "failed"}
        />
      )}
      {newest && task.result !== null && task.result !== undefined && <Result key={task.name} result={task.result} />}
    </section>
  );
}

/** What it is and when it runs, as the job has it now. */
function Rules({ described }: { described: TaskDescription }) {
  const { operator, trigger_rule, retries, timeout, pool } = described;
  const facts = [
    operator,
    trigger_rule !== "allSuccessful" && `runs on ${trigger_rule}`,
    retries > 0 && `${retries} ${retries === 1 ? "retry" : "retries"}`,
    timeout !== null && `at most ${span(timeout * 1000)}`,
    pool !== null && `pool ${pool}`,
  ].filter((fact): fact is string => Boolean(fact));
  return <span class="quiet rules">{facts.join(" · ")}</span>;
}

function Handles({ detail, task }: { detail: ExecutionDetail; task: TaskDetail }) {
  const may = handles(detail.state, task.state, (detail.dag?.[task.name] ?? []).length > 0);
  if (!may.length) return null;
  return (
    <span class="acts">
      {may.map((handle) => {
        const { label, act } = handleOf(handle, detail, task.name);
        return (
          <button type="button" class="act small" key={handle} onClick={() => void act()}>
            {label}
          </button>
        );
      })}
    </span>
  );
}

/** The attempts, of which one is shown; which one stands in the address. */
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
          <span class="unseen"> {LABEL[one.state]}</span>
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

/** How long something took, or takes so far. */
export function Lasted({ from, to }: { from: string; to: string | null }) {
  if (to !== null) return <>{span(Date.parse(to) - Date.parse(from))}</>;
  return <>{elapsed(second.value - Date.parse(from))}</>;
}

function Failed({ error }: { error: string }) {
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

function Result({ result }: { result: unknown }) {
  const [whole, showWhole] = useState(false);
  const text = resultText(result);
  const some = beginning(text);
  return (
    <div class="result-part">
      <div class="bar">
        <h3>Result</h3>
        <Copy text={text} what="the result" />
      </div>
      <pre tabIndex={0}>{whole ? text : some}</pre>
      {!whole && some.length < text.length && (
        <button type="button" class="act small" onClick={() => showWhole(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </div>
  );
}
