/**
 * A Gantt chart: a row per task, in the order of the plan, on one time axis.
 *
 * Rule: only visible rows render, and as time passes only unfinished bars.
 */

import { useSignal, type ReadonlySignal } from "@preact/signals";
import { useEffect, useId, useLayoutEffect, useRef } from "preact/hooks";
import { second } from "../../app/clock";
import { place, ticksOf, type Axis, type Bar, type Tick } from "../../model/gantt";
import { countsText, countOf, type Counts, yieldedText } from "../../model/items";
import { doneText, numberText, shareOf } from "../../model/progress";
import { LABEL, type State } from "../../model/states";
import { elapsed, moment, span } from "../../model/time";
import { Name } from "../../components/name";
import { Sign } from "../../components/state";
import { useZone } from "../../components/time";
import { useWindow } from "../../components/window";
import type { Bar as ProgressBar } from "../../api/schema";
import type { TaskDetail } from "../../api/client";

const ROW = 26; // pixels, as in execution-page.css
const APART = 84; // minimum pixels between two ticks of the axis

export function Gantt(props: {
  tasks: TaskDetail[];
  bars: Map<string, Bar[]>;
  axis: Axis;
  cell: (task: string) => ReadonlySignal<State> | undefined;
  items?: (task: string) => ReadonlySignal<Counts | null> | undefined;
  progress?: (task: string) => ReadonlySignal<ProgressBar | null> | undefined;
  selected: string | null;
  onPick: (task: string) => void;
  /** Called when the user opens the log of the task. */
  onOpen: () => void;
}) {
  const { tasks, bars, axis, selected, onPick } = props;
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const rows = useRef<HTMLDivElement>(null);
  const width = useSignal(400);
  const pointedTask = useSignal<string | null>(null);
  const chosen = tasks.findIndex(({ name }) => name === selected);
  const [first, end] = useWindow(rows, tasks.length, ROW);
  const { ticks, step } = ticksOf(axis, width.value, APART);

  useEffect(() => {
    const track = box.current!.querySelector(".gantt-axis .track")!;
    const watch = new ResizeObserver(() => (width.value = track.clientWidth));
    watch.observe(track);
    return () => watch.disconnect();
  }, []);

  // Scrolls the selected row into view.
  useLayoutEffect(() => {
    const scroller = box.current!;
    if (chosen < 0) return;
    const top = chosen * ROW;
    const room = scroller.clientHeight - ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top - ROW;
    else if (top + ROW > scroller.scrollTop + room) scroller.scrollTop = top + 2 * ROW - room;
  }, [chosen]);

  const turn = (event: KeyboardEvent) => {
    const to = { ArrowDown: chosen + 1, ArrowUp: Math.max(0, chosen - 1), Home: 0, End: tasks.length - 1 }[event.key];
    if (event.key === "Enter") props.onOpen();
    else if (to === undefined) return;
    else if (tasks[to]) onPick(tasks[to].name);
    event.preventDefault();
  };
  const described = tasks.find(({ name }) => name === (pointedTask.value ?? selected));
  return (
    <div class="gantt-part">
      <div
        ref={box}
        class="gantt"
        role="listbox"
        tabIndex={0}
        aria-label="Timeline of tasks"
        aria-activedescendant={chosen >= 0 ? `${id}${chosen}` : undefined}
        onKeyDown={turn}
        onPointerLeave={() => (pointedTask.value = null)}
      >
        <div class="gantt-axis" aria-hidden="true">
          <span class="track">
            <Ticks ticks={ticks} step={step} from={axis.stretches[0]!.from} />
          </span>
        </div>
        <div ref={rows} class="gantt-rows" style={{ height: `${tasks.length * ROW}px` }} role="presentation">
          <span class="track grid-lines" aria-hidden="true">
            {ticks.map(({ time, at }) => (
              <i key={time} style={{ left: percent(at) }} />
            ))}
            {axis.stretches.slice(1).map(({ from, left }) => (
              <b key={from} style={{ left: percent(left - 0.025), width: percent(0.025) }} title="A pause is left out here" />
            ))}
          </span>
          {tasks.slice(first, end).map((task, index) => (
            <Row
              key={task.name}
              id={`${id}${first + index}`}
              index={first + index}
              of={tasks.length}
              task={task}
              bars={bars.get(task.name) ?? []}
              axis={axis}
              cell={props.cell(task.name)}
              items={props.items?.(task.name)}
              progress={props.progress?.(task.name)}
              selected={task.name === selected}
              onPick={() => onPick(task.name)}
              onOpen={props.onOpen}
              onPoint={() => (pointedTask.value = task.name)}
            />
          ))}
        </div>
      </div>
      <p class="details quiet">
        {described ? (
          <>
            <Name text={described.name} />
            {tell(bars.get(described.name) ?? [], described)}
            {described.skip?.why && (
              <>
                , <Name text={described.skip.why} />
              </>
            )}
            <Told items={props.items?.(described.name)} />
            {described.yielded !== undefined && <>; {yieldedText(described.yielded)}</>}
          </>
        ) : (
          "Point at a task or select one with j and k."
        )}
      </p>
    </div>
  );
}

const percent = (share: number) => `${share * 100}%`;

function Ticks({ ticks, step, from }: { ticks: Tick[]; step: number; from: number }) {
  const shown = useZone();
  return (
    <>
      {ticks.map(({ time, at }) => (
        <span key={time} style={{ left: percent(at) }}>
          {step < 1000 ? `+${span(time - from)}` : moment(time, step, shown)}
        </span>
      ))}
    </>
  );
}

function Row(props: {
  id: string;
  index: number;
  of: number;
  task: TaskDetail;
  bars: Bar[];
  axis: Axis;
  cell: ReadonlySignal<State> | undefined;
  items: ReadonlySignal<Counts | null> | undefined;
  progress: ReadonlySignal<ProgressBar | null> | undefined;
  selected: boolean;
  onPick: () => void;
  onOpen: () => void;
  onPoint: () => void;
}) {
  const { task, bars, axis } = props;
  const state = props.cell?.value ?? task.state;
  const counts = props.items?.value;
  const bar = state === "running" ? (props.progress?.value ?? task.progress) : null;
  return (
    <div
      id={props.id}
      class="gantt-row"
      role="option"
      aria-selected={props.selected}
      aria-posinset={props.index + 1}
      aria-setsize={props.of}
      data-row={task.name}
      data-state={state}
      style={{ top: `${props.index * ROW}px` }}
      onClick={props.onPick}
      onDblClick={props.onOpen}
      onPointerEnter={props.onPoint}
    >
      <span class="label">
        <span class={`mark ${state}`}>
          <Sign state={state} />
        </span>
        <Name text={task.name} />
        {counts && (
          <span class="counts quiet" aria-hidden="true" title={countsText(counts)}>
            {countOf(counts, "successful")}/{counts.total}
          </span>
        )}
        {bar && (
          <span class="counts quiet" aria-hidden="true" title={`${doneText(bar)}${bar.text && `, ${bar.text}`}`}>
            {bar.total ? `${Math.floor(shareOf(bar)! * 100)} %` : numberText(bar.done)}
          </span>
        )}
        <span class="visually-hidden">
          : {LABEL[state]}
          {task.attempts.length > 1 && `, ${task.attempts.length} attempts`}
          {counts && `, ${countsText(counts)}`},
        </span>
      </span>
      <span class="track" aria-hidden="true">
        {bars.map((bar) =>
          bar.to === null ? (
            <Growing key={`${bar.kind} ${bar.attempt}`} bar={bar} axis={axis} />
          ) : (
            <Stretch key={`${bar.kind} ${bar.attempt}`} bar={bar} axis={axis} to={bar.to} />
          ),
        )}
      </span>
      <span class="took quiet">
        <Took bars={bars} />
      </span>
    </div>
  );
}

/** The counts of a mapped task in words. */
function Told({ items }: { items: ReadonlySignal<Counts | null> | undefined }) {
  const counts = items?.value;
  return counts ? <>; {countsText(counts)}</> : null;
}

/** An unfinished bar: the only part that renders again as time passes. */
function Growing({ bar, axis }: { bar: Bar; axis: Axis }) {
  return <Stretch bar={bar} axis={axis} to={Math.max(bar.from, second.value)} />;
}

function Stretch({ bar, axis, to }: { bar: Bar; axis: Axis; to: number }) {
  const left = place(axis, bar.from);
  return (
    <span
      class={`state-bar ${bar.state}${bar.to === null ? " open" : ""}`}
      data-kind={bar.kind}
      title={`${describeBar(bar)}${bar.kind === "end" ? "" : `: ${span(to - bar.from)}`}`}
      style={{ left: percent(left), width: percent(place(axis, to) - left) }}
    />
  );
}

/** The total duration of the attempts. */
function Took({ bars }: { bars: Bar[] }) {
  const attempts = bars.filter(({ kind }) => kind === "attempt");
  if (!attempts.length) return null;
  const open = attempts.some(({ to }) => to === null);
  const now = open ? second.value : 0;
  const sum = attempts.reduce((all, { from, to }) => all + Math.max(0, (to ?? now) - from), 0);
  return <>{open ? elapsed(sum) : span(sum)}</>;
}

function describeBar({ kind, state, attempt }: Bar): string {
  switch (kind) {
    case "attempt":
      return `attempt ${attempt} ${state === "running" ? "running" : LABEL[state]}`;
    case "retry":
      return "waits for a retry";
    case "room":
      return "waits for a slot";
    case "end":
      return LABEL[state];
  }
}

/** A task's bars in words. */
function tell(bars: Bar[], task: TaskDetail): string {
  if (!bars.length) return `: ${LABEL[task.state]}`;
  const parts = bars.map((bar) => {
    if (bar.kind === "end") return LABEL[bar.state];
    const time = bar.to === null ? "" : ` ${span(bar.to - bar.from)}`;
    return bar.kind === "attempt" ? `${describeBar(bar)}${time && ` after${time}`}` : `${describeBar(bar).replace("waits", bar.to === null ? "waits" : "waited")}${time}`;
  });
  return `: ${parts.join("; ")}`;
}
