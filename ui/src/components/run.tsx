/** Runs a job manually: at once if it has no parameters, else after a form. */

import { signal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { announce, attempt, quoted } from "../app/notices";
import { executionHref } from "../app/route";
import { go } from "../app/router";
import { fieldsOf, Mistaken, mistakesOf, valuesOf, type Field } from "../model/parameters";
import * as api from "../api/client";
import { Dialog } from "./dialog";
import { Name } from "./name";

/** What to do with the parameters of the form. */
export interface Sending {
  /** The title, before the job's name. */
  title: string;
  /** The label of the button. */
  action: string;
  /** The beginning of the error message. */
  undone: string;
  /** Sends the parameters; returns the success message. */
  send: (params: Record<string, unknown>) => Promise<string>;
}

/** The open form: a job, and the initial values of the fields. */
interface Form extends Sending {
  described: api.JobDescription;
  given: Record<string, unknown>;
}

const form = signal<Form | null>(null);

/**
 * Runs a job, after a form if it has parameters. `given` are initial values; if it is present, the
 * form is always shown.
 */
export async function run(job: string, given?: Record<string, unknown>, onDone: (id: string) => void = () => {}) {
  const described = await describedOf(job, `${quoted(job)} was not submitted`);
  if (!described) return;
  const takes = Object.keys(described.params_schema?.properties ?? described.params ?? {}).length > 0;
  if (!takes && !given) {
    await submit(job, undefined, onDone);
    return;
  }
  const send = async (params: Record<string, unknown>) => {
    onDone((await api.submit(job, params)).id);
    return `${quoted(job)} was submitted.`;
  };
  form.value = { described, given: given ?? {}, title: "Run", action: "Run", undone: "Not submitted", send };
}

/** Shows the form for the parameters of a job, with the initial values `given`, and sends them. */
export async function withParameters(job: string, given: Record<string, unknown>, sending: Sending): Promise<void> {
  const described = await describedOf(job, sending.undone);
  if (described) form.value = { described, given, ...sending };
}

async function describedOf(job: string, undone: string): Promise<api.JobDescription | undefined> {
  try {
    return await api.getJob(job);
  } catch (error) {
    announce(`${undone}: ${(error as Error).message}`, { bad: true });
    return undefined;
  }
}

/** Submits a job; `onDone` gets the id of the execution. */
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
    <button type="button" class="button" disabled={busy} onClick={() => void press()} aria-label={`Run ${props.job}`}>
      Run
    </button>
  );
}

/** The form, while it is open. */
export function RunForm() {
  const openForm = form.value;
  return openForm && <Open key={openForm.described.job} openForm={openForm} />;
}

function Open({ openForm }: { openForm: Form }) {
  const { described, given, title, action, undone } = openForm;
  const [failure, fail] = useState("");
  const [mistakes, mark] = useState<ReadonlyMap<string, string>>(new Map());
  const [written, write] = useState<ReadonlyMap<string, string>>(new Map());
  const fields = useMemo(() => fieldsOf(described.params_schema, described.params, given), [openForm]);
  const close = () => (form.value = null);
  const send = async (event: Event) => {
    event.preventDefault();
    try {
      announce(await openForm.send(valuesOf(fields, written)));
      close();
    } catch (error) {
      const marked = error instanceof Mistaken ? error.mistakes : mistakesOf((error as Partial<api.RequestFailed>).errors ?? [], fields);
      const others = marked.has("") ? ` ${marked.get("")}` : "";
      mark(marked.size > 1 ? marked : new Map());
      fail(marked.size > 1 ? `${marked.size} parameters are wrong.${others}` : (error as Error).message);
    }
  };
  return (
    <Dialog
      title={
        <>
          {title} <Name text={described.job} />
        </>
      }
      onClose={close}
    >
      <form onSubmit={(event) => void send(event)}>
        {fields.length === 0 && <p class="quiet">This job has no parameters.</p>}
        <Fields fields={fields} written={written} mistakes={mistakes} onWrite={(id, text) => write(new Map(written).set(id, text))} />
        {failure && (
          <p class="failure" role="alert">
            {undone}: {failure}
          </p>
        )}
        <div class="answers">
          <button type="button" class="button" onClick={close}>
            Close
          </button>
          <button type="submit" class="button main">
            {action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

interface Writing {
  written: ReadonlyMap<string, string>;
  /** What is wrong with a field, by its id. */
  mistakes: ReadonlyMap<string, string>;
  onWrite: (id: string, text: string) => void;
}

/** The fields of a form for parameters. */
export function Fields({ fields, ...writing }: { fields: Field[] } & Writing) {
  return (
    <div class="fields">
      {fields.map((field) => (
        <One key={field.id} field={field} {...writing} />
      ))}
    </div>
  );
}

function One({ field, ...writing }: { field: Field } & Writing) {
  if (field.kind === "group")
    return (
      <fieldset>
        <legend>
          <Name text={field.name} />
          {field.nullable && <span class="quiet"> optional</span>}
        </legend>
        {field.description && <p class="quiet about">{field.description}</p>}
        <Mistake text={writing.mistakes.get(field.id)} />
        <Fields fields={field.fields} {...writing} />
      </fieldset>
    );
  // The rule is left out if the field itself shows it.
  const shown = ["switch", "choice", "date"].includes(field.kind) || field.rule.startsWith("text");
  const about = [field.description, shown ? "" : field.rule].filter(Boolean).join(": ");
  return (
    <label>
      <span>
        <Name text={field.name} />
        {field.required && <span class="quiet"> required</span>}
      </span>
      <Input field={field} text={writing.written.get(field.id) ?? field.text} onWrite={(text) => writing.onWrite(field.id, text)} />
      {about && <span class="quiet about">{about}</span>}
      <Mistake text={writing.mistakes.get(field.id)} />
    </label>
  );
}

/** What is wrong with a field; nothing if it is right. */
function Mistake({ text }: { text: string | undefined }) {
  return text ? <span class="mistake about">{text}</span> : null;
}

function Input({ field, text, onWrite }: { field: Field; text: string; onWrite: (text: string) => void }) {
  const { kind, choices, nullable } = field;
  const onInput = (event: { currentTarget: { value: string } }) => onWrite(event.currentTarget.value);
  if (kind === "switch")
    return (
      <input type="checkbox" checked={text === "true"} onChange={(event) => onWrite(String(event.currentTarget.checked))} />
    );
  if (kind === "choice")
    return (
      <select value={text} onChange={onInput}>
        {!choices.includes(text) && <option value={text}>{text}</option>}
        {choices.map((choice) => (
          <option key={choice} value={choice}>
            {asWords(choice)}
          </option>
        ))}
      </select>
    );
  if (kind === "date") return <input type="date" value={text} onInput={onInput} />;
  if (kind === "json" || kind === "whole" || text.length > 60)
    return <textarea rows={Math.min(12, text.split("\n").length + 1)} value={text} onInput={onInput} spellcheck={false} />;
  return (
    <input
      value={text}
      onInput={onInput}
      inputMode={kind === "number" ? "decimal" : "text"}
      placeholder={nullable ? "nothing" : ""}
    />
  );
}

function asWords(choice: string): string {
  const value: unknown = JSON.parse(choice);
  return typeof value === "string" ? value : value === null ? "nothing" : value === true ? "yes" : value === false ? "no" : choice;
}

/** Opens the page of a new execution. */
export const openExecution = (id: string) => go(executionHref(id));
