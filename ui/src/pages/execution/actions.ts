/**
 * Manual actions on an execution and its tasks.
 *
 * Rule: each action shows a message about its result. Actions that cannot be undone ask first.
 */

import { attempt, quoted } from "../../app/notices";
import type { TaskAction } from "../../model/actions";
import type { ItemAction } from "../../model/items";
import { confirmed, decided } from "../../components/dialog";
import { openExecution, run, withParameters } from "../../components/run";
import * as api from "../../api/client";

/** Why an execution cannot be retried. */
export const REMOVED = "The job is no longer defined, so it cannot run again";

export async function cancelExecution({ id, job }: api.ExecutionDetail): Promise<void> {
  const sure = await confirmed(
    `Cancel this execution of ${quoted(job)}?`,
    "Running tasks are stopped, and the others do not start. You can retry the execution later.",
    "Cancel the execution",
  );
  if (sure)
    await attempt(
      api.cancel(id),
      ({ success }) => (success ? "The execution is being cancelled." : "The execution has already ended."),
      "Not cancelled",
    );
}

const DEFINITIONS = { "By the newest": "newest", "By the one it ran by": "same" } as const;

/** What a retry sends about the definition, which is asked for if the job has a newer one; null if the user goes back. */
async function definitionFor({ job, newer }: api.ExecutionDetail): Promise<{ definition?: "newest" } | null> {
  if (!newer) return {};
  const choice = await decided(
    `By which definition of ${quoted(job)}?`,
    "Its tasks or their rules have changed since this execution. By the newest definition, new tasks run too, tasks " +
      "that are gone are dropped, and those that succeeded keep their results. Tasks run their current code in both cases.",
    Object.keys(DEFINITIONS) as (keyof typeof DEFINITIONS)[],
  );
  if (choice === null) return null;
  return DEFINITIONS[choice] === "newest" ? { definition: "newest" } : {};
}

/** Sends a retry, after a question about the definition if there is a choice. */
async function retry(detail: api.ExecutionDetail, body: api.RetryBody, done: string, undone: string): Promise<unknown> {
  const chosen = await definitionFor(detail);
  if (chosen === null) return null;
  return attempt(
    api.retry(detail.id, { ...body, ...chosen }),
    ({ success }) => (success ? done : "Nothing to retry: the execution has changed."),
    undone,
  );
}

export function retryFailed(detail: api.ExecutionDetail): Promise<unknown> {
  return retry(detail, {}, "The unsuccessful tasks run again.", "Not retried");
}

/** Retries unsuccessful tasks, after a form to change the parameters. */
export async function retryWith(detail: api.ExecutionDetail): Promise<void> {
  const { id, job, params } = detail;
  const chosen = await definitionFor(detail);
  if (chosen === null) return;
  await withParameters(job, params, {
    title: "Retry",
    action: "Retry",
    undone: "Not retried",
    send: async (given) => {
      await api.retry(id, { params: given, ...chosen });
      return "The unsuccessful tasks run again, with these parameters.";
    },
  });
}

/** Submits a new execution, after a form with the parameters of this one. */
export function clone({ job, params }: api.ExecutionDetail): Promise<void> {
  return run(job, params, openExecution);
}

/** An action on a task: the label of its button, and the function. */
export function taskAction(handle: TaskAction, detail: api.ExecutionDetail, name: string): { label: string; act: () => Promise<unknown> } {
  const { id } = detail;
  const task = quoted(name);
  switch (handle) {
    case "cancel":
      return {
        label: "Cancel task",
        act: async () =>
          (await confirmed(`Cancel ${task}?`, "The task is stopped, and tasks that depend on it are skipped.", "Cancel the task")) &&
          attempt(
            api.cancelTask(id, name),
            ({ success }) => (success ? `${task} is being cancelled.` : `${task} has already ended or is ending.`),
            `${task} was not cancelled`,
          ),
      };
    case "retry":
      return {
        label: "Retry from here",
        act: () => retry(detail, { task: name }, `${task} and all tasks downstream run again.`, `${task} was not retried`),
      };
    case "retry alone":
      return {
        label: "Retry only this",
        act: () => retry(detail, { task: name, following: false }, `Only ${task} runs again.`, `${task} was not retried`),
      };
    case "mark successful":
    case "mark skipped": {
      const state = handle === "mark skipped" ? "skipped" : "successful";
      return {
        label: `Mark ${state}`,
        act: async () =>
          (await confirmed(`Mark ${task} ${state}?`, "Your name is recorded. Only a retry can undo this.", `Mark ${state}`)) &&
          attempt(api.mark(id, name, state), () => `${task} is marked ${state}.`, `${task} was not marked`),
      };
    }
  }
}

/** The retry of one hook, by the definition that its execution ran by. */
export function hookRetry({ id }: api.ExecutionDetail, name: string): { label: string; act: () => Promise<unknown> } {
  const hook = quoted(name);
  return {
    label: "Retry hook",
    act: () => attempt(api.retry(id, { task: name }), () => `Only ${hook} runs again.`, `${hook} was not retried`),
  };
}

/** An action on one item of a mapped task. */
export function itemAction(
  handle: ItemAction,
  detail: api.ExecutionDetail,
  name: string,
  item: number,
): { label: string; act: () => Promise<unknown> } {
  const { id } = detail;
  const about = `Item ${item} of ${quoted(name)}`;
  switch (handle) {
    case "cancel":
      return {
        label: "Cancel item",
        act: async () =>
          (await confirmed(`Cancel item ${item} of ${quoted(name)}?`, "The other items go on.", "Cancel the item")) &&
          attempt(
            api.cancelTask(id, name, item),
            ({ success }) => (success ? `${about} is being cancelled.` : `${about} has already ended or is ending.`),
            `${about} was not cancelled`,
          ),
      };
    case "retry":
      return {
        label: "Retry item",
        act: () => retry(detail, { task: name, item }, `${about} and all tasks downstream run again.`, `${about} was not retried`),
      };
    case "mark successful":
    case "mark skipped": {
      const state = handle === "mark skipped" ? "skipped" : "successful";
      return {
        label: `Mark item ${state}`,
        act: async () =>
          (await confirmed(`Mark item ${item} of ${quoted(name)} ${state}?`, "Your name is recorded. Only a retry can undo this.", `Mark ${state}`)) &&
          attempt(api.mark(id, name, state, item), () => `${about} is marked ${state}.`, `${about} was not marked`),
      };
    }
  }
}
