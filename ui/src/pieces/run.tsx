/** Running a job by hand: at once where it takes no parameters, else with a form for them. */

import { signal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { announce, attempt, quoted } from "../app/notices";
import { executionHref } from "../app/route";
import { go } from "../app/router";
import { fieldsOf, valuesOf, type Field } from "../model/parameters";
import * as api from "../wire/api";
import { Dialog } from "./dialog";
import { Name } from "./name";

/** What the open form is for: a job to be run, with what its fields begin with. */
interface Form {
  described: api.JobDescription;
  given: Record<string, unknown>;
  onDone: (id: string) => void;
}

const form = signal<Form | null>(null);

/**
 * Runs a job, after a form if it has parameters or takes any. `given` stands in the form to
 * begin with; with it the form is shown in any case.
 */
export async function run(job: string, given?: Record<string, unknown>, onDone: (id: string) => void = () => {}) {
  let described: api.JobDescription;
  try {
    described = await api.getJob(job);
  } catch (error) {
    announce(`${quoted(job)} was not submitted: ${(error as Error).message}`, { bad: true });
    return;
  }
  const takes = Object.keys(described.params_schema?.properties ?? described.params ?? {}).length > 0;
  if (takes || given) form.value = { described, given: given ?? {}, onDone };
  else await submit(job, undefined, onDone);
}

/** `href` of where the reader can see it run is offered by `onDone`, not forced on them. */
async function submit(job: string, params: Record<string, unknown> | undefined, onDone: (id: string) => void) {
  const done = await attempt(
    api.submit(job, params),
    () => `${quoted(job)} was submitted.`,
    `${quoted(job)} was not submitted`,
  );
  if (done) onDone(done.id);
  return done;
}

export function RunButton(props: { job: string; onDone?: (id: string) => void }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    await run(props.job, undefined, props.onDone);
    setBusy(false);
  };
  return (
    <button type="button" class="act" disabled={busy} onClick={() => void press()} aria-label={`Run ${props.job}`}>
      Run
    </button>
  );
}

/** The form, while it is open. */
export function RunForm() {
  const asked = form.value;
  return asked && <Open key={asked.described.job} asked={asked} />;
}

function Open({ asked }: { asked: Form }) {
  const { described, given, onDone } = asked;
  const [failure, fail] = useState("");
  const [written, write] = useState<ReadonlyMap<string, string>>(new Map());
  const fields = useMemo(() => fieldsOf(described.params_schema, described.params, given), [asked]);
  const close = () => (form.value = null);
  const send = async (event: Event) => {
    event.preventDefault();
    let params: Record<string, unknown>;
    try {
      params = valuesOf(fields, written);
    } catch (error) {
      fail((error as Error).message);
      return;
    }
    try {
      const { id } = await api.submit(described.job, params);
      close();
      announce(`${quoted(described.job)} was submitted.`);
      onDone(id);
    } catch (error) {
      fail((error as Error).message);
    }
  };
  return (
    <Dialog
      title={
        <>
          Run <Name text={described.job} />
        </>
      }
      onClose={close}
    >
      <form onSubmit={(event) => void send(event)}>
        <Fields fields={fields} written={written} onWrite={(name, text) => write(new Map(written).set(name, text))} />
        {failure && (
          <p class="failure" role="alert">
            Not submitted: {failure}
          </p>
        )}
        <div class="answers">
          <button type="button" class="act" onClick={close}>
            Close
          </button>
          <button type="submit" class="act main">
            Run
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** The fields of a form for parameters. */
export function Fields(props: {
  fields: Field[];
  written: ReadonlyMap<string, string>;
  onWrite: (name: string, text: string) => void;
}) {
  return (
    <div class="fields">
      {props.fields.map((field) => {
        const text = props.written.get(field.name) ?? field.text;
        const onInput = (event: { currentTarget: { value: string } }) => props.onWrite(field.name, event.currentTarget.value);
        return (
          <label key={field.name}>
            <span>
              <Name text={field.name} />
              {field.required && <span class="quiet"> needed</span>}
            </span>
            <Input field={field} text={text} onInput={onInput} onWrite={(text) => props.onWrite(field.name, text)} />
            {field.description && <span class="quiet about">{field.description}</span>}
          </label>
        );
      })}
    </div>
  );
}

function Input(props: {
  field: Field;
  text: string;
  onInput: (event: { currentTarget: { value: string } }) => void;
  onWrite: (text: string) => void;
}) {
  const { field, text, onInput } = props;
  if (field.kind === "switch")
    return (
      <input
        type="checkbox"
        checked={text === "true"}
        onChange={(event) => props.onWrite(String(event.currentTarget.checked))}
      />
    );
  if (field.kind === "choice")
    return (
      <select value={text} onChange={onInput}>
        {!field.choices.includes(text) && <option value={text}>{text}</option>}
        {field.choices.map((choice) => (
          <option key={choice} value={choice}>
            {asWords(choice)}
          </option>
        ))}
      </select>
    );
  if (field.kind === "json" || text.length > 60)
    return <textarea rows={Math.min(8, text.split("\n").length + 1)} value={text} onInput={onInput} spellcheck={false} />;
  return <input value={text} onInput={onInput} inputMode={field.kind === "number" ? "decimal" : "text"} />;
}

function asWords(choice: string): string {
  const value: unknown = JSON.parse(choice);
  return typeof value === "string" ? value : choice;
}

/** Opens the page of an execution that has just been submitted. */
export const openExecution = (id: string) => go(executionHref(id));
