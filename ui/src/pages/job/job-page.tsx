/** The page of a job: executions, graph, durations, calendar, due times and definition. */

import { useComputed } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { useKeys, type Key } from "../../app/keys";
import { executionHref } from "../../app/route";
import { choose, go } from "../../app/router";
import { Graph } from "../../components/graph";
import { Name, Tags } from "../../components/name";
import { openExecution, run, RunButton } from "../../components/run";
import { JobLinks } from "../../components/job-links";
import { Schedule } from "../../components/schedule";
import { StateLabel } from "../../components/state";
import { Switch, turn } from "../../components/switch";
import { Tabs, type Tab } from "../../components/tabs";
import { Countdown, JobZone, Time } from "../../components/time";
import type { JobDescription, Shape } from "../../api/client";
import { Backfill } from "./backfill";
import { Calendar } from "./calendar";
import { Definition } from "./definition";
import { DueTimes } from "./due-times";
import { Grid } from "./grid";
import { JobView } from "./job-view";
import { Timeline } from "./timeline";
import "./job-page.css";

export function JobPage({ name }: { name: string }) {
  const view = useMemo(() => new JobView(name), [name]);
  useEffect(() => view.start(), [view]);
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
    <JobZone.Provider value={described?.timezone}>
      <header class="top">
        <h1>
          <Name text={view.name} />
        </h1>
        {described && <Facts view={view} described={described} />}
      </header>
      {view.removed.value && (
        <p class="gone" role="note">
          This job is no longer defined, so it cannot run. Its history is kept.
        </p>
      )}
      {view.failure.value && <p class="failure">Some data could not be loaded: {view.failure.value}.</p>}
      {described && <Views view={view} described={described} />}
      {view.removed.value && <RemovedJob view={view} shape={view.removed.value} />}
    </JobZone.Provider>
  );
}

/** The views of a job's history, which a removed job has, too. */
const history = (view: JobView, shape: Shape): Tab[] => [
  { key: "grid", label: "Executions", view: () => <Grid view={view} tasks={shape.tasks} /> },
  { key: "graph", label: "Graph", view: () => <NewestGraph view={view} shape={shape} /> },
  { key: "durations", label: "Durations", view: () => <Timeline view={view} tasks={shape.tasks} /> },
  { key: "calendar", label: "Calendar", view: () => <WithCalendar view={view} /> },
  { key: "due", label: "Due times", view: () => <DueTimes view={view} /> },
];

const keysOf = (tabs: Tab[]): Key[] =>
  tabs.map(({ key, label }, index) => ({
    key: String(index + 1),
    does: label,
    act: () => choose({ view: index === 0 ? null : key }, true),
  }));

function RemovedJob({ view, shape }: { view: JobView; shape: Shape }) {
  const tabs = history(view, shape);
  useKeys("Job", keysOf(tabs));
  return <Tabs label="Views of the job" choice="view" tabs={tabs} />;
}

function Views({ view, described }: { view: JobView; described: JobDescription }) {
  const tabs: Tab[] = [
    ...history(view, described),
    { key: "definition", label: "Definition", view: () => <Definition described={described} /> },
  ];
  useKeys("Job", [
    { key: "r", does: "Run", act: () => void run(view.name, undefined, openExecution) },
    { key: "R", does: "Run with parameters", act: () => void run(view.name, {}, openExecution) },
    ...(described.schedule ? [{ key: "b", does: "Backfill", act: () => (view.backfills.value = true) }] : []),
    { key: "s", does: "Toggle the schedule", act: () => void turn(view.cell, !view.cell.active.peek()) },
    ...keysOf(tabs),
  ]);
  return <Tabs label="Views of the job" choice="view" tabs={tabs} />;
}

function Facts({ view, described }: { view: JobView; described: JobDescription }) {
  const { active, next } = view.cell;
  const due = useComputed(() => (active.value ? next.value : null)).value;
  return (
    <>
      {described.description && <p class="quiet description">{described.description}</p>}
      <div class="facts">
        <Schedule schedules={described.schedules} timezone={described.timezone} after={described.after}>
          {due && (
            <span class="next">
              <Countdown to={due} />
            </span>
          )}
        </Schedule>
        {described.followers.length > 0 && (
          <span>
            <span class="quiet">then </span>
            <JobLinks jobs={described.followers} />
          </span>
        )}
        {described.tags.length > 0 && (
          <span>
            <Tags tags={described.tags} />
          </span>
        )}
        <span class="button-row">
          <Switch job={view.cell} />
          {described.schedule && (
            <button type="button" class="button" onClick={() => (view.backfills.value = true)}>
              Backfill
            </button>
          )}
          {described.params === null && !described.params_schema && (
            <button type="button" class="button" onClick={() => void run(view.name, {}, openExecution)}>
              Run with…
            </button>
          )}
          <RunButton job={view.name} onDone={openExecution} />
        </span>
      </div>
      {view.backfills.value && <Backfill job={view.name} onClose={() => (view.backfills.value = false)} />}
    </>
  );
}

/** The graph with the states of the newest execution. */
function NewestGraph({ view, shape }: { view: JobView; shape: Shape }) {
  const newest = view.cell.newest.value;
  return (
    <section class="card" aria-label="Graph">
      {newest && (
        <div class="bar">
          <a href={executionHref(newest.id)}>
            <StateLabel state={newest.state.value} />
          </a>
          <span class="quiet">
            latest execution, submitted <Time at={newest.submitted} />
          </span>
        </div>
      )}
      <Graph
        tasks={shape.tasks}
        dag={shape.dag}
        cell={(name) => newest?.task(name)}
        selected={null}
        onPick={(task) => newest && go(executionHref(newest.id, { task }))}
      />
    </section>
  );
}

/** Reloads the calendar when an execution ends. */
function WithCalendar({ view }: { view: JobView }) {
  return <Calendar job={view.name} changed={view.ended.value} />;
}
