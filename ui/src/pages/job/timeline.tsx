/** Durations of the last executions, with median and outliers, and their costs. */

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { now } from "../../app/clock";
import { executionHref } from "../../app/route";
import { tookOf, type Run } from "../../model/bars";
import type { LiveExecution } from "../../model/live";
import { headsOf } from "../../model/columns";
import { durationsOf, slowest, ticksOf } from "../../model/durations";
import { measuresOf, type Measure } from "../../model/progress";
import { isFinished, LABEL, SIGN } from "../../model/states";
import { local, span } from "../../model/time";
import { last, LastSelector } from "../../components/last";
import { Name } from "../../components/name";
import { useRoving } from "../../components/roving";
import { useZone } from "../../components/time";
import { useWidth } from "../../components/width";
import type { Cost } from "../../api/schema";
import type { JobView } from "./job-view";

const HEIGHT = 220;
const LOW = 90; // of the charts of costs
const MEASURES = 12; // charts of costs
const LEFT = 64;
const MAX_WIDTH = 44; // pixels from one bar to the next
const MIN_WIDTH = 11;
const TOP = 14;
const BELOW = 32; // pixels for the sign and the time
const MANY = 20; // tasks listed

export function Timeline({ view, tasks }: { view: JobView; tasks: string[] }) {
  useEffect(() => view.requestHistory(last()), [view, last()]);
  const executions = view.cell.executions.value.slice(0, last()).reverse();
  const ended = executions
    .map((cell) => ({ cell, run: { state: cell.state.value, ...cell.times.value } }))
    .filter(({ run }) => isFinished(run.state) && run.finished !== null && run.started !== null)
    .map(({ cell, run }) => ({ cell, state: run.state, took: tookOf(run, 0)!, cost: cell.cost.value }));
  const measures = measuresOf(ended.map(({ cost }) => cost)).slice(0, MEASURES);
  const good = durationsOf(ended.filter(({ state }) => state === "successful").map(({ took }) => took));
  return (
    <section class="card" aria-label="Durations">
      <div class="bar">
        {good && (
          <span class="figures">
            <Figure label="median" value={good.median} />
            <Figure label="90th percentile" value={good.high} />
            <Figure label="longest" value={good.longest} />
          </span>
        )}
        <LastSelector onChange={() => {}} />
      </div>
      {ended.length === 0 ? <p class="quiet none">No finished executions yet.</p> : <Took ended={ended} good={good} />}
      {measures.map((measure) => (
        <Spent key={measure.name} ended={ended} measure={measure} />
      ))}
      <Slowest tasks={tasks} executions={executions} />
    </section>
  );
}

function Figure({ label, value }: { label: string; value: number }) {
  return (
    <span>
      <span class="quiet">{label} </span>
      <b>{span(value)}</b>
    </span>
  );
}

interface Ended {
  cell: LiveExecution;
  state: Run["state"];
  took: number;
  cost: Cost | null;
}

/** The durations, with their median and outliers. */
function Took({ ended, good }: { ended: Ended[]; good: ReturnType<typeof durationsOf> }) {
  const isOdd = ({ state, took }: Ended) => good !== null && state === "successful" && took > good.fence;
  return (
    <Chart
      label={`Durations of ${ended.length} executions`}
      ended={ended}
      height={HEIGHT}
      amount={({ took }) => took}
      says={(one) => `took ${span(one.took)}${isOdd(one) ? ", unusually long" : ""}`}
      scale={span}
      ticks={(most) => ticksOf(most, 4)}
      isOdd={isOdd}
      median={good?.median}
    />
  );
}

/** The amounts of one measure of the costs. */
function Spent({ ended, measure }: { ended: Ended[]; measure: Measure }) {
  const amount = ({ cost }: Ended) => (cost === null ? 0 : measure.of(cost));
  return (
    <>
      <h2 class="minor">
        <Name text={measure.name} />
      </h2>
      <Chart
        label={`${measure.name} of ${ended.length} executions`}
        ended={ended}
        height={LOW}
        amount={amount}
        says={(one) => `${measure.name} ${measure.says(amount(one))}`}
        scale={measure.says}
        ticks={measure.ticks}
      />
    </>
  );
}

/** A bar per execution. */
function Chart(props: {
  label: string;
  ended: Ended[];
  height: number;
  amount: (one: Ended) => number;
  says: (one: Ended) => string;
  scale: (amount: number) => string;
  ticks: (most: number) => number[];
  isOdd?: (one: Ended) => boolean;
  median?: number | undefined;
}) {
  const { ended, height, amount, median } = props;
  const zone = useZone();
  const highest = Math.max(...ended.map(amount));
  const most = highest > 0 ? highest : 1;
  const y = (value: number) => TOP + (height - TOP) * (1 - Math.max(0, value) / most);
  const field = useRef<HTMLDivElement>(null);
  const room = useWidth(field, 0);
  const roving = useRoving(field, "svg", "a");
  const step = Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, Math.floor((room - LEFT - 8) / ended.length)));
  const width = Math.max(room, LEFT + ended.length * step + 8);
  const apart = Math.ceil(19 / step);
  // If not all fit, the newest are shown first.
  useLayoutEffect(() => {
    field.current!.scrollLeft = field.current!.scrollWidth;
  }, [width, ended.length]);
  return (
    <div class="chart" ref={field} {...roving}>
      <svg width={width} height={height + BELOW} role="group" aria-label={props.label}>
        {props.ticks(most).map((tick) => (
          <g key={tick} class="scale">
            <line x1={LEFT} x2={width} y1={y(tick)} y2={y(tick)} />
            <text x={LEFT - 8} y={y(tick) + 4}>
              {props.scale(tick)}
            </text>
          </g>
        ))}
        {ended.map((one, index) => {
          const { cell, state } = one;
          const odd = props.isOdd?.(one) ?? false;
          const about = `${local(cell.submitted, new Date(now()), zone)}: ${LABEL[state]}, ${props.says(one)}`;
          const x = LEFT + index * step;
          const top = y(amount(one));
          return (
            <a key={cell.id} href={executionHref(cell.id)} aria-label={about} tabindex={-1} class={`duration-bar ${state}${odd ? " odd" : ""}`}>
              <title>{about}</title>
              <rect class="reach" x={x} y={0} width={step} height={height} />
              <rect class="took" x={x + 1.5} y={top} width={step - 3} height={Math.max(2, height - top)} rx="1.5" />
              {odd && <path class="flag" d={`M${x + step / 2} ${top - 12}l4 7h-8z`} />}
              {state !== "successful" && <path class="sign" transform={`translate(${x + step / 2 - 6} ${height + 2})`} d={SIGN[state]} />}
            </a>
          );
        })}
        {headsOf(ended.map(({ cell }) => cell.submitted), zone, undefined, apart).map(({ column, text }) => (
          <text key={column} class="when" x={LEFT + column * step + 2} y={height + 28}>
            {text}
          </text>
        ))}
        {median !== undefined && (
          <g class="median">
            <line x1={LEFT} x2={width} y1={y(median)} y2={y(median)} />
            <text x={width} y={y(median) - 5}>
              median
            </text>
          </g>
        )}
      </svg>
    </div>
  );
}

/** The tasks by typical duration, slowest first. */
function Slowest({ tasks, executions }: { tasks: string[]; executions: LiveExecution[] }) {
  const found = slowest(
    tasks.map((name) => ({
      name,
      runs: executions.flatMap((execution) => {
        const state = execution.task(name).value;
        const summary = execution.summary(name);
        return state === "successful" && summary?.started
          ? [{ state, started: summary.started, finished: summary.finished ?? null }]
          : [];
      }),
    })),
  );
  if (!found.length) return null;
  const most = found[0]!.typical || 1;
  return (
    <>
      <h2 class="minor">Typical duration of tasks</h2>
      <ol class="slowest">
        {found.slice(0, MANY).map(({ name, typical }) => (
          <li key={name}>
            <Name text={name} />
            <span class="length">
              <span style={{ width: `${Math.max(0.5, (100 * typical) / most)}%` }} />
            </span>
            <span class="took">{span(typical)}</span>
          </li>
        ))}
      </ol>
      {found.length > MANY && <p class="quiet none">and {found.length - MANY} faster ones</p>}
    </>
  );
}
