/** The definition of a job: its policies, parameters, tasks and source. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { write } from "../../model/json";
import { fieldsOf } from "../../model/parameters";
import { span } from "../../model/time";
import { JobLinks } from "../../components/job-links";
import { Name, Tags } from "../../components/name";
import { Schedule } from "../../components/schedule";
import { Time } from "../../components/time";
import * as api from "../../api/client";

const RULES: Record<string, string> = {
  allow: "they run side by side",
  skip: "the due time is skipped",
  queue: "the next one is queued",
  replace: "the running one is cancelled and replaced",
  latest: "the latest one, if it is not too old",
  none: "none",
  all: "all of them, oldest first",
};

export function Definition({ described }: { described: api.JobDescription }) {
  return (
    <section class="card definition" aria-label="Definition">
      <dl>
        <Fact name="Schedule">
          <Schedule schedules={described.schedules} timezone={described.timezone} after={described.after} />
        </Fact>
        {described.followers.length > 0 && (
          <Fact name="Runs before">
            <JobLinks jobs={described.followers} />
          </Fact>
        )}
        {(described.start || described.end) && (
          <Fact name="Due">
            {described.start && (
              <>
                from <Time at={described.start} />{" "}
              </>
            )}
            {described.end && (
              <>
                until <Time at={described.end} />
              </>
            )}
          </Fact>
        )}
        {described.skip_dates && <Fact name="Skipped dates">{described.skip_dates}</Fact>}
        <Fact name="Time zone">{described.timezone}</Fact>
        <Fact name="Tags">{described.tags.length ? <Tags tags={described.tags} /> : "none"}</Fact>
        <Fact name="If the previous one still runs">{RULES[described.overlap] ?? described.overlap}</Fact>
        {described.max_active > 1 && <Fact name="Executions at once">{described.max_active}</Fact>}
        {described.interval && <Fact name="Interval">an execution gets the due times before and at its own</Fact>}
        <Fact name="Due times missed during downtime">{RULES[described.catchup] ?? described.catchup}</Fact>
        <Fact name="Timeout">{described.timeout === null ? "none" : span(described.timeout * 1000)}</Fact>
      </dl>
      <h2 class="minor">Parameters</h2>
      <Parameters described={described} />
      <h2 class="minor">Tasks</h2>
      <div class="scroll" tabIndex={0} role="group" aria-label="Tasks">
        <table>
          <thead>
            <tr>
              <th>Task</th>
              <th>Operator</th>
              <th>Runs after</th>
              <th>Trigger rule</th>
              <th>Retries</th>
              <th>Timeout</th>
              <th>Pool</th>
              <th>Priority</th>
            </tr>
          </thead>
          <tbody>
            {described.task_details.map((task) => (
              <tr key={task.name}>
                <td>
                  <Name text={task.name} />
                </td>
                <td>
                  <Operator name={task.operator} />
                  {task.branch && <span class="quiet"> branch</span>}
                </td>
                <td>
                  <bdi>{task.after.join(", ") || "–"}</bdi>
                  {task.map_over.length > 0 && (
                    <span class="quiet">
                      , for each {task.zipped ? "pair" : task.map_over.length > 1 ? "combination" : "item"} of{" "}
                      <bdi>{task.map_over.join(", ")}</bdi>
                    </span>
                  )}
                </td>
                <td>{inWords(task.trigger_rule)}</td>
                <td>{task.retries}</td>
                <td>{task.timeout === null ? "–" : span(task.timeout * 1000)}</td>
                <td>{task.pool ?? "–"}</td>
                <td>{task.priority}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {described.hooks.length > 0 && (
        <>
          <h2 class="minor">Hooks</h2>
          <ul>
            {described.hooks.map(({ name, on, operator }) => (
              <li key={name}>
                <Name text={name} /> on {on} <span class="quiet">
                  <Operator name={operator} />
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
      <Templates tasks={described.task_details} />
      {described.file && <SourceText job={described.job} />}
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Operators that goflow makes of functions, which users do not name. */
const OF_FUNCTIONS: Record<string, string> = { FunctionOperator: "function", GeneratorOperator: "generator" };

function Operator({ name }: { name: string }) {
  const word = OF_FUNCTIONS[name];
  return word === undefined ? <code>{name}</code> : <>{word}</>;
}

/** A camel-case name in words: "allSuccessful" is "all successful". */
const inWords = (name: string) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

function Parameters({ described: { params, params_schema } }: { described: api.JobDescription }) {
  const fields = fieldsOf(params_schema, params);
  if (fields[0]?.kind === "whole") return <p class="none">Any names and values.</p>;
  if (!fields.length) return <p class="none">None.</p>;
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Parameters">
      <table>
        <thead>
          <tr>
            <th>Parameter</th>
            <th>Type</th>
            <th>Default</th>
            <th>Description</th>
          </tr>
        </thead>
        <tbody>
          {fields.map(({ name, rule, required, description }) => (
            <tr key={name}>
              <td>
                <Name text={name} />
              </td>
              <td>{rule || "anything"}</td>
              <td>{required ? "required" : <code>{params?.[name] === undefined ? "–" : write(params[name])}</code>}</td>
              <td>{description || "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Templates({ tasks }: { tasks: api.JobDescription["task_details"] }) {
  const rows = tasks.flatMap(({ name, templates }) => templates.map((template) => ({ name, ...template })));
  if (!rows.length) return null;
  return (
    <>
      <h2 class="minor">Templates</h2>
      <div class="scroll" tabIndex={0} role="group" aria-label="Templates">
        <table>
          <thead>
            <tr>
              <th>Task</th>
              <th>Place</th>
              <th>Text</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ name, place, text }) => (
              <tr key={`${name} ${place}`}>
                <td>
                  <Name text={name} />
                </td>
                <td>
                  <code>{place}</code>
                </td>
                <td>
                  <code class="template">{text}</code>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function SourceText({ job }: { job: string }) {
  const [source, setSource] = useState<api.Source | null>(null);
  const [failure, fail] = useState("");
  useEffect(() => {
    let left = false;
    api.getSource(job).then(
      (found) => !left && setSource(found),
      (error: Error) => !left && fail(error.message),
    );
    return () => void (left = true);
  }, [job]);
  if (failure) return <p class="failure">The source could not be loaded: {failure}.</p>;
  if (!source?.text) return null;
  return (
    <>
      <h2 class="minor">
        Source{" "}
        {source.file !== null && (
          <code>
            {source.file}
            {source.line !== null && `:${source.line}`}
          </code>
        )}
      </h2>
      <pre class="source" tabIndex={0} role="group" aria-label="Source">
        {source.text.trimEnd().split("\n").map((line, index) => (
          <code key={index} data-line={(source.line ?? 1) + index}>
            {line || " "}
          </code>
        ))}
      </pre>
      {source.truncated && <p class="quiet none">The rest is not shown.</p>}
    </>
  );
}
