/** A grid of tasks (rows) by executions (columns, newest on the right) with the state of each. */

import { useComputed, useSignal, type Signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { now } from "../../app/clock";
import { executionHref } from "../../app/route";
import { recordOf, tookOf } from "../../model/bars";
import type { LiveExecution } from "../../model/live";
import { headsOf } from "../../model/columns";
import { LABEL } from "../../model/states";
import { local, span } from "../../model/time";
import { Bars } from "../../components/bars";
import { last, LastSelector } from "../../components/last";
import { Name } from "../../components/name";
import { useRoving } from "../../components/roving";
import { Sign, Tally } from "../../components/state";
import { useZone } from "../../components/time";
import { useWindow } from "../../components/window";
import type { JobView } from "./job-view";

const ROW = 24; // pixels, as in the style sheet
const COLUMN = 19;

/** The cell under the pointer or with the focus: its text, and its position from the left. */
interface Pointed {
  about: string;
  left: number;
}

export function Grid({ view, tasks }: { view: JobView; tasks: string[] }) {
  const executions = view.cell.executions.value.slice(0, last());
  const box = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLDivElement>(null);
  const [from, to] = useWindow(box, tasks.length, ROW);
  const newest = executions[0]?.id;
  // If not all fit, the newest are shown first.
  useLayoutEffect(() => {
    field.current!.scrollLeft = field.current!.scrollWidth;
  }, [newest]);
  useEffect(() => view.requestHistory(last()), [view, last()]);
  const longest = useComputed(
    () =>
      recordOf(
        view.cell.executions.value.slice(0, last()).map(({ state, times }) => ({ state: state.value, ...times.value })),
      ).longest,
  ).value;
  const zone = useZone();
  const { onFocusIn, onKeyDown } = useRoving(field, "[data-cells]", "a");
  const pointed = useSignal<Pointed | null>(null);
  const point = ({ target }: Event) => {
    const cell = (target as Element).closest?.("a");
    const about = cell?.getAttribute("aria-label");
    pointed.value = cell && about ? { about, left: cell.offsetLeft } : null;
  };
  const oldestFirst = [...executions].reverse();
  return (
    <section class="card" aria-label="Executions">
      <div class="bar">
        <CellDetails pointed={pointed} />
        <LastSelector onChange={() => {}} />
      </div>
      {executions.length === 0 && <p class="quiet none">No executions yet.</p>}
      <div
        class="grid"
        ref={field}
        onKeyDown={onKeyDown}
        onFocusIn={(event) => {
          onFocusIn(event);
          point(event);
        }}
        onMouseOver={point}
        onMouseLeave={() => (pointed.value = null)}
      >
        <Column pointed={pointed} />
        <div class="line days" aria-hidden="true">
          <span class="label" />
          <span class="texts">
            {headsOf(oldestFirst.map(({ submitted }) => submitted), zone).map(({ column, text }) => (
              <span key={column} style={{ left: `${column * COLUMN}px` }}>
                {text}
              </span>
            ))}
          </span>
        </div>
        <div class="line heads" data-cells>
          <span class="label quiet">{longest > 0 && <>longest {span(longest)}</>}</span>
          <Tally cells={executions.map((execution) => execution.state)} />
          <Bars executions={executions} longest={longest} />
        </div>
        <div ref={box} class="lines" style={{ height: `${tasks.length * ROW}px` }}>
          {tasks.slice(from, to).map((name, index) => (
            <Line key={name} task={name} executions={executions} top={(from + index) * ROW} />
          ))}
        </div>
      </div>
    </section>
  );
}

function Line({ task, executions, top }: { task: string; executions: LiveExecution[]; top: number }) {
  return (
    <div class="line" data-row={task} data-cells style={{ top: `${top}px` }}>
      <span class="label" title={task}>
        <Name text={task} />
      </span>
      <Tally cells={executions.map((execution) => execution.task(task))} />
      {[...executions].reverse().map((execution) => (
        <Cell key={execution.id} execution={execution} task={task} />
      ))}
    </div>
  );
}

/** The text of the pointed cell, at a fixed place and without the delay of a tooltip. */
function CellDetails({ pointed }: { pointed: Signal<Pointed | null> }) {
  return (
    <span class="quiet details" aria-hidden="true">
      {pointed.value?.about ?? "Each column is an execution, the newest on the right."}
    </span>
  );
}

function Column({ pointed }: { pointed: Signal<Pointed | null> }) {
  return pointed.value && <span class="column" style={{ left: `${pointed.value.left}px` }} />;
}

function Cell({ execution, task }: { execution: LiveExecution; task: string }) {
  const zone = useZone();
  const state = execution.task(task).value;
  const summary = execution.summary(task);
  const attempts = typeof summary?.attempts === "number" ? summary.attempts : (summary?.attempts?.length ?? 0);
  const took = summary ? tookOf({ state, started: summary.started ?? null, finished: summary.finished ?? null }, now()) : null;
  const about = [
    `${task}, ${local(execution.submitted, new Date(now()), zone)}: ${LABEL[state]}`,
    ...(took !== null && summary?.finished ? [`took ${span(took)}`] : []),
    ...(attempts > 1 ? [`${attempts} attempts`] : []),
  ].join(", ");
  return (
    <a
      class={`cell ${state}`}
      data-state={state}
      href={executionHref(execution.id, { task })}
      title={about}
      aria-label={about}
      tabIndex={-1}
    >
      <span class={`mark ${state}`}>{attempts > 1 ? <Attempts count={attempts} /> : <Sign state={state} />}</span>
    </a>
  );
}

/** The number of attempts, in place of the sign. Colour and label show the state. */
function Attempts({ count }: { count: number }) {
  return <span class="attempt-count">{count > 9 ? "+" : count}</span>;
}
