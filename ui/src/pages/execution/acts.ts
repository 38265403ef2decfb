/**
 * What a reader does with an execution and its tasks by hand.
 *
 * Rule: each says what it did, or why it could not; what cannot be undone is asked about first.
 */

import { attempt, quoted } from "../../app/notices";
import type { Handle } from "../../model/hands";
import { confirmed } from "../../pieces/dialog";
import { openExecution, run, withParameters } from "../../pieces/run";
import * as api from "../../api/client";

/** Why nothing of an execution may be run again. */
export const GONE = "The job is not defined any more, so nothing of it can run again";

export async function cancelExecution({ id, job }: api.ExecutionDetail): Promise<void> {
  const sure = await confirmed(
    `Cancel this execution of ${quoted(job)}?`,
    "What runs is stopped, and what has not begun will not. It can be retried afterwards.",
    "Cancel the execution",
  );
  if (sure)
    await attempt(
      api.cancel(id),
      ({ success }) => (success ? "The execution is being cancelled." : "Nothing to do: the execution had ended meanwhile."),
      "Not cancelled",
    );
}

export function retryFailed({ id }: api.ExecutionDetail): Promise<unknown> {
  return attempt(
    api.retry(id),
    ({ success }) =>
      success ? "The execution runs again where it had not succeeded." : "Nothing to do: the execution had changed meanwhile.",
    "Not retried",
  );
}

/** Runs again what did not succeed, after a form in which the parameters can be changed. */
export function retryWith({ id, job, params }: api.ExecutionDetail): Promise<void> {
  return withParameters(job, params, {
    title: "Retry",
    action: "Retry",
    undone: "Not retried",
    send: async (given) => {
      await api.retry(id, { params: given });
      return "The execution runs again where it had not succeeded, with these parameters.";
    },
  });
}

/** A new execution of the job, after a form that begins with the parameters of this one. */
export function clone({ job, params }: api.ExecutionDetail): Promise<void> {
  return run(job, params, openExecution);
}

/** What may be done with a task: the word on its button, and the doing. */
export function handleOf(handle: Handle, { id }: api.ExecutionDetail, name: string): { label: string; act: () => Promise<unknown> } {
  const task = quoted(name);
  switch (handle) {
    case "cancel":
      return {
        label: "Cancel task",
        act: async () =>
          (await confirmed(`Cancel ${task}?`, "It is stopped; what needs it will be skipped.", "Cancel the task")) &&
          attempt(
            api.cancelTask(id, name),
            ({ success }) => (success ? `${task} is being cancelled.` : `Nothing to do: ${task} had ended or was ending.`),
            `${task} was not cancelled`,
          ),
      };
    case "retry":
      return {
        label: "Retry from here",
        act: () => attempt(api.retry(id, { task: name }), () => `${task} and all that follows run again.`, `${task} was not retried`),
      };
    case "retry alone":
      return {
        label: "Retry only this",
        act: () => attempt(api.retry(id, { task: name, following: false }), () => `${task} alone runs again.`, `${task} was not retried`),
      };
    case "mark successful":
    case "mark skipped": {
      const state = handle === "mark skipped" ? "skipped" : "successful";
      return {
        label: `Mark ${state}`,
        act: async () =>
          (await confirmed(`Mark ${task} ${state}?`, "It is on record who did it, and cannot be taken back but by a retry.", `Mark ${state}`)) &&
          attempt(api.mark(id, name, state), () => `${task} counts as ${state}.`, `${task} was not marked`),
      };
    }
  }
}
