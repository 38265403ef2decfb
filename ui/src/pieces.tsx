/** The small parts both pages are made of. */

import type { ReadonlySignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import type { ExecutionCell, JobCell } from "./board";
import { choose, last } from "./choices";
import { attempt, quoted } from "./notice";
import { DEFAULT_LAST, LASTS } from "./route";
import { LABEL, SIGN, tally, type State } from "./states";
import { local } from "./time";

export function LastSelector({ onChange }: { onChange: () => void }) {
  return (
    <label class="choice">
      Last{" "}
      <select
        value={last.value}
        onChange={(event) => {
          last.value = Number(event.currentTarget.value);
          choose("last", last.value === DEFAULT_LAST ? null : String(last.value));
          onChange();
        }}
      >
        {LASTS.map((count) => (
          <option key={count} value={count}>
            {count}
          </option>
        ))}
      </select>{" "}
      executions
    </label>
  );
}

/** The sign of a state, drawn in the colour of the text around it. */
export function Sign({ state }: { state: State }) {
  return (
    <svg class="sign" viewBox="0 0 12 12" aria-hidden="true">
      <path d={SIGN[state]} />
    </svg>
  );
}

/** A state in words, with its sign. */
export function StateLabel({ state }: { state: State }) {
  return (
    <span class={`state ${state}`} data-state={state}>
      <span class={`mark ${state}`}>
        <Sign state={state} />
      </span>
      {LABEL[state]}
    </span>
  );
}

/**
 * One state mark, a link or a button. Only this is drawn again when its cell changes. Marks
 * are many: the Tab key stops only at those that are `focusable`.
 */
export function Mark(props: {
  cell: ReadonlySignal<State>;
  about: string;
  href?: string;
  onPick?: () => void;
  picked?: ReadonlySignal<boolean>;
  focusable?: boolean;
}) {
  const state = props.cell.value;
  const title = `${props.about}: ${LABEL[state]}`;
  const common = {
    class: `mark ${state}${props.picked?.value ? " picked" : ""}`,
    "data-state": state,
    title,
    tabIndex: props.focusable ? 0 : -1,
    "aria-label": title,
  };
  if (props.href)
    return (
      <a {...common} href={props.href}>
        <Sign state={state} />
      </a>
    );
  return (
    <button {...common} type="button" onClick={props.onPick}>
      <Sign state={state} />
    </button>
  );
}

/** What the marks of a row say, in words, for those who do not see them. */
export function Tally({ cells }: { cells: ReadonlySignal<State>[] }) {
  return <span class="unseen">{tally(cells.map((cell) => cell.value))}</span>;
}

/** Its children once it has come near the part of the page that is seen, nothing before. */
export function Lazy({ class: name, children }: { class: string; children: () => ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near || !box.current) return;
    const watch = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && setNear(true), {
      rootMargin: "600px",
    });
    watch.observe(box.current);
    return () => watch.disconnect();
  }, [near]);
  return (
    <div class={name} ref={box}>
      {near && children()}
    </div>
  );
}

export function Time({ at, none = "" }: { at: string | null | undefined; none?: string }) {
  if (!at) return <span class="quiet">{none}</span>;
  return (
    <time dateTime={at} title={at}>
      {local(at, new Date())}
    </time>
  );
}

/** A name of any script, as text, kept from turning the words around it. */
export function Name({ text }: { text: string }) {
  return <bdi class="name">{text}</bdi>;
}

/** The job's schedule being on or off; a job without one can be switched too. */
export function Switch({ job }: { job: JobCell }) {
  const active = job.active.value;
  const flip = async () => {
    const said = await attempt(
      api.setActive(job.name, !active),
      (answer) => `${quoted(job.name)} is ${answer.active ? "on" : "off"}.`,
      `${quoted(job.name)} was not switched`,
    );
    if (said) job.active.value = said.active;
  };
  return (
    <button
      type="button"
      class="switch"
      role="switch"
      aria-checked={active}
      aria-label={`Schedule of ${job.name}`}
      title={active ? "On: runs on schedule" : "Off: runs only when executed by hand"}
      onClick={() => void flip()}
    >
      <span class="knob" />
    </button>
  );
}

export function ExecuteButton(props: { job: string; params?: () => Record<string, unknown> | undefined; onDone?: (id: string) => void }) {
  const [busy, setBusy] = useState(false);
  const execute = async () => {
    setBusy(true);
    const done = await attempt(
      // Reading the parameters may fail too; then nothing is sent and the reason is shown.
      Promise.resolve().then(() => api.submit(props.job, props.params?.())),
      () => `${quoted(props.job)} was submitted.`,
      `${quoted(props.job)} was not submitted`,
    );
    setBusy(false);
    if (done) props.onDone?.(done.id);
  };
  return (
    <button type="button" class="act" disabled={busy} onClick={() => void execute()} aria-label={`Execute ${props.job}`}>
      Execute
    </button>
  );
}

export function Schedule({ schedule, timezone }: { schedule: string | null; timezone: string }) {
  if (!schedule) return <span class="quiet">by hand only</span>;
  return (
    <span class="schedule">
      <code>{schedule}</code>
      {timezone && timezone !== "UTC" && <span class="quiet"> {timezone}</span>}
    </span>
  );
}

/** The newest executions of a job, as many as chosen. */
export function shown(executions: ExecutionCell[]): ExecutionCell[] {
  return executions.slice(0, last.value);
}
