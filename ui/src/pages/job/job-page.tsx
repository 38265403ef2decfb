/** One job: its tasks over the last executions, its graph, and its due times. */

import { useComputed } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { now } from "../../app/clock";
import { executionHref } from "../../app/route";
import { go } from "../../app/router";
import { local } from "../../model/time";
import { Graph } from "../../pieces/graph";
import { last, LastSelector } from "../../pieces/last";
import { Lazy } from "../../pieces/lazy";
import { Name, Tags } from "../../pieces/name";
import { openExecution, RunButton } from "../../pieces/run";
import { Schedule } from "../../pieces/schedule";
import { Mark, Tally } from "../../pieces/state";
import { Switch } from "../../pieces/switch";
import { Tabs } from "../../pieces/tabs";
import { Countdown, JobZone } from "../../pieces/time";
import type { JobDescription } from "../../wire/api";
import { DueTimes } from "./due-times";
import { JobView } from "./job-view";
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
      {view.failure.value && <p class="failure">Not all could be loaded: {view.failure.value}.</p>}
      {described && (
        <Tabs
          label="Views of the job"
          choice="view"
          tabs={[
            { key: "grid", label: "Executions", view: () => <Grid view={view} tasks={described.tasks} /> },
            { key: "graph", label: "Graph", view: () => <LastGraph view={view} described={described} /> },
            { key: "ledger", label: "Due times", view: () => <DueTimes view={view} /> },
          ]}
        />
      )}
    </JobZone.Provider>
  );
}

function Facts({ view, described }: { view: JobView; described: JobDescription }) {
  const { active, next } = view.cell;
  const due = useComputed(() => (active.value ? next.value : null));
  return (
    <>
      {described.description && <p class="quiet description">{described.description}</p>}
      <div class="facts">
        <Schedule schedule={described.schedule} timezone={described.timezone} />
        {due.value && (
          <span>
            <span class="quiet">next </span>
            <Countdown to={due.value} />
          </span>
        )}
        <Tags tags={described.tags} />
        <span class="acts">
          <RunButton job={view.name} onDone={openExecution} />
          <Switch job={view.cell} />
        </span>
      </div>
    </>
  );
}

function LastGraph({ view, described }: { view: JobView; described: JobDescription }) {
  const newest = view.cell.executions.value[0];
  return (
    <Graph
      tasks={described.tasks}
      dag={described.dag}
      cell={(name) => newest?.task(name)}
      selected={null}
      onPick={(task) => newest && go(executionHref(newest.id, { task }))}
    />
  );
}

function Grid({ view, tasks }: { view: JobView; tasks: string[] }) {
  return (
    <div class="grid">
      <LastSelector onChange={() => {}} />
      <div class="line whole">
        <span class="label">all tasks</span>
        <Lazy class="marks">{() => <WholeMarks view={view} />}</Lazy>
      </div>
      {tasks.map((name) => (
        <div class="line" key={name} data-row={name}>
          <span class="label">
            <Name text={name} />
          </span>
          <Lazy class="marks">{() => <TaskMarks view={view} task={name} />}</Lazy>
        </div>
      ))}
    </div>
  );
}

function WholeMarks({ view }: { view: JobView }) {
  const executions = view.cell.executions.value.slice(0, last());
  if (!executions.length) return <span class="quiet">none yet</span>;
  return (
    <>
      <Tally cells={executions.map((execution) => execution.state)} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.state}
          about={local(execution.submitted, new Date(now()))}
          focusable
          href={executionHref(execution.id)}
        />
      ))}
    </>
  );
}

function TaskMarks({ view, task }: { view: JobView; task: string }) {
  const executions = view.cell.executions.value.slice(0, last());
  return (
    <>
      <Tally cells={executions.map((execution) => execution.task(task))} />
      {executions.map((execution) => (
        <Mark
          key={execution.id}
          cell={execution.task(task)}
          about={local(execution.submitted, new Date(now()))}
          href={executionHref(execution.id, { task })}
        />
      ))}
    </>
  );
}
