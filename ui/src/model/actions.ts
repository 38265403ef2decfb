/** Manual actions on executions: those allowed, and those done, in words. */

import type { Action } from "../api/schema";
import { isFinished, type State } from "./states";

export type TaskAction = "cancel" | "retry" | "retry alone" | "mark successful" | "mark skipped";

/**
 * The actions allowed on a task, by the server's rules: a running task can only be cancelled,
 * unless it waits without a slot, and only a finished execution can be retried.
 */
export function allowedActions(execution: State, task: State, leads: boolean, waits = false): TaskAction[] {
  const may: TaskAction[] = [];
  if (isFinished(execution)) {
    may.push("retry");
    if (leads) may.push("retry alone");
  } else if (!isFinished(task)) may.push("cancel");
  if ((task !== "running" || waits) && task !== "successful") {
    may.push("mark successful");
    if (task !== "skipped") may.push("mark skipped");
  }
  return may;
}

/** The actions after the submit, oldest first, without cancels by timeout. */
export function manualActions(actions: Action[]): Action[] {
  return actions.filter(({ action, by }) => action !== "submit" && !(action === "cancel" && !by));
}

const PAST_TENSE: Record<string, string> = {
  cancel: "cancelled",
  "cancel task": "cancelled",
  "mark successful": "marked successful",
  "mark skipped": "marked skipped",
  retry: "retried",
};

/** An action and its user: "retried by ann from 10.0.0.7". */
export function describeAction({ action, by, definition }: Action): string {
  const did = `${PAST_TENSE[action] ?? action}${definition === "newest" ? " with the newest definition" : ""}`;
  if (!by) return did;
  return by.startsWith("replaced by ") ? `${did}, ${by}` : `${did} by ${by}`;
}
