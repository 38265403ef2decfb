/** The system page: load over time, slots and pools, versions, and notices. */

import { useSignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { second } from "../../app/clock";
import { bytes, lineOf, roundUp } from "../../model/series";
import { span } from "../../model/time";
import { PoolName } from "../../components/pool";
import { Time } from "../../components/time";
import * as api from "../../api/client";
import { connection } from "../../api/stream";
import "./system-page.css";

const MAX_SAMPLES = 720; // samples in memory
const MIN_PAUSE = 2000; // milliseconds between two requests

interface Chart {
  measure: api.Measure;
  title: string;
  about: string;
  says: (value: number) => string;
}

const seconds = (value: number) => span(value * 1000);
const count = (value: number) => String(Math.round(value * 10) / 10);

const CHARTS: Chart[] = [
  { measure: "lateness", title: "Scheduler lateness", about: "Maximum delay of recording a due time", says: seconds },
  { measure: "loop_lag", title: "Event-loop lag", about: "Maximum delay of the event loop", says: seconds },
  { measure: "commit", title: "Commit", about: "Maximum duration of a commit", says: seconds },
  { measure: "commits", title: "Commits a second", about: "Each makes many changes durable", says: count },
  { measure: "running", title: "Tasks running", about: "Running attempts", says: count },
  { measure: "waiting", title: "Tasks waiting", about: "Ready, but no slot is free", says: count },
  { measure: "processor", title: "Processor", about: "Share of one core, without the processes of tasks", says: (part) => `${Math.round(part * 100)} %` },
  { measure: "memory", title: "Memory", about: "Resident memory of the server", says: bytes },
  { measure: "store_bytes", title: "Store", about: "Size of the store on disk", says: bytes },
  { measure: "listeners", title: "Listeners", about: "Open streams", says: count },
];

export function SystemPage() {
  const system = useSignal<api.System | null>(null);
  const failure = useSignal("");
  useEffect(() => pollSamples(system, failure), []);
  const found = system.value;
  return (
    <>
      <header class="top">
        <h1>System</h1>
        {found && (
          <span class="quiet">
            up for {span(Math.max(0, second.value - Date.parse(found.started)))}, since <Time at={found.started} />
          </span>
        )}
      </header>
      {failure.value && <p class="failure">The server did not respond: {failure.value}.</p>}
      {found && (
        <>
          <div class="charts">
            {CHARTS.map((chart) => (
              <Small key={chart.measure} chart={chart} values={found.load[chart.measure]} at={found.load.at} />
            ))}
          </div>
          <div class="lists">
            <Rooms found={found} />
            <Facts found={found} />
          </div>
          <Notices found={found} />
        </>
      )}
    </>
  );
}

/** Loads new samples as often as the server takes them. */
function pollSamples(system: Signal<api.System | null>, failure: Signal<string>): () => void {
  document.title = "System · goflow";
  let timer: ReturnType<typeof setTimeout> | undefined;
  let left = false;
  const ask = async () => {
    const held = system.peek();
    try {
      const found = await api.getSystem(held?.load.at.at(-1));
      if (left) return;
      system.value = held ? { ...found, load: joined(held.load, found.load) } : found;
      failure.value = "";
      connection.value = "live";
    } catch (error) {
      if (left) return;
      failure.value = (error as Error).message;
      connection.value = "lost";
    }
    const every = (system.peek()?.load.every ?? 5) * 1000;
    timer = setTimeout(() => void ask(), Math.max(MIN_PAUSE, every));
  };
  void ask();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}

function joined(held: api.System["load"], more: api.System["load"]): api.System["load"] {
  const at = [...held.at, ...more.at].slice(-MAX_SAMPLES);
  const all = { ...more, at };
  for (const { measure } of CHARTS) all[measure] = [...held[measure], ...more[measure]].slice(-MAX_SAMPLES);
  return all;
}

const MIN_SAMPLES = 60; // the minimum number of samples on the axis
const WIDTH = 240;
const HEIGHT = 54;

function Small({ chart, values, at }: { chart: Chart; values: number[]; at: string[] }) {
  const pointed = useSignal<number | null>(null);
  const highest = Math.max(0, ...values);
  const most = roundUp(highest);
  const index = pointed.value === null ? values.length - 1 : Math.min(pointed.value, values.length - 1);
  const shown = values[index];
  const point = (sample: number) => (pointed.value = Math.max(0, Math.min(values.length - 1, sample)));
  // Shortly after the start the line is short and at the right.
  const room = Math.max(MIN_SAMPLES, values.length);
  const line = lineOf(values, room, WIDTH, HEIGHT, most);
  const place = (sample: number) => WIDTH - ((values.length - 1 - sample) / (room - 1)) * WIDTH;
  return (
    <section class="card small" aria-label={chart.title} title={chart.about}>
      <div class="bar">
        <h2 class="minor">{chart.title}</h2>
        <b>{shown === undefined ? "–" : chart.says(shown)}</b>
      </div>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${chart.title}: ${shown === undefined ? "no samples yet" : `${chart.says(shown)}, highest ${chart.says(highest)}`}`}
        onPointerMove={({ currentTarget, offsetX }) =>
          point(values.length - 1 - Math.round((1 - offsetX / currentTarget.clientWidth) * (room - 1)))
        }
        onPointerLeave={() => (pointed.value = null)}
        onBlur={() => (pointed.value = null)}
        onKeyDown={(event) => {
          const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (!by) return;
          event.preventDefault();
          point(index + by);
        }}
        tabindex={0}
      >
        {values.length > 0 && <path class="area" d={`${line}V${HEIGHT}H${place(0)}Z`} />}
        <path class="curve" d={line} />
        {pointed.value !== null && <path class="pointer" d={`M${place(index)} 0V${HEIGHT}`} />}
      </svg>
      <span class="quiet under">
        {pointed.value !== null && at[index] ? (
          <Time at={at[index]} />
        ) : values.length ? (
          <>
            highest {chart.says(highest)} in {span(Date.parse(at.at(-1)!) - Date.parse(at[0]!))}
          </>
        ) : (
          "no samples yet"
        )}
      </span>
    </section>
  );
}

/** Slots and pools: limit, running and waiting tasks. */
function Rooms({ found }: { found: api.System }) {
  return (
    <section class="card" aria-label="Slots and pools">
      <h2>Slots and pools</h2>
      <ul class="list limits">
        {found.pools.map(({ kind, name, limit, running, waiting }) => (
          <li key={`${kind} ${name}`}>
            <PoolName pool={{ kind, name }} />
            <meter min={0} max={limit} value={running} aria-label={`${running} of ${limit}`} />
            <span>
              {running} of {limit}
              {waiting > 0 && <span class="quiet">, {waiting} waiting</span>}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Facts({ found }: { found: api.System }) {
  const facts: [string, string][] = [
    ["Jobs", `${found.jobs}, ${found.active_jobs} on`],
    ["Unfinished executions", String(found.unfinished)],
    ["Store", `${found.store.kind}, ${bytes(found.store.bytes)}`],
    ["Open streams", String(found.listeners)],
    ...Object.entries(found.versions),
  ];
  return (
    <section class="card" aria-label="Facts">
      <h2>Facts</h2>
      <dl class="facts-list">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt class="quiet">{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <p>
        <a class="quiet" href="third-party.txt" target="_blank">
          Licenses of the packages in this dashboard
        </a>
      </p>
    </section>
  );
}

function Notices({ found }: { found: api.System }) {
  if (!found.notices.length) return null;
  return (
    <section class="card notices-card" aria-label="Notices">
      <h2>Notices</h2>
      <ul class="list limits">
        {[...found.notices].reverse().map(({ at, text }) => (
          <li key={`${at} ${text}`} class="notice-item">
            <Time at={at} />
            <span>{text}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
