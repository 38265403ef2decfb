/** What people do with executions by hand: what they may, and what they did, in words. */

import type { Action } from "../api/schema";
import { isFinished, type State } from "./states";

export type Handle = "cancel" | "retry" | "retry alone" | "mark successful" | "mark skipped";

/**
 * What may be done with a task, as the server would have it: a running one is only to be
 * cancelled, and nothing is sent round again before the execution has ended.
 */
export function handles(execution: State, task: State, leads: boolean): Handle[] {
  const may: Handle[] = [];
  if (isFinished(execution)) {
    may.push("retry");
    if (leads) may.push("retry alone");
  } else if (!isFinished(task)) may.push("cancel");
  if (task !== "running" && task !== "successful") {
    may.push("mark successful");
    if (task !== "skipped") may.push("mark skipped");
  }
  return may;
}

/** What was done after the submit, oldest first; the end by a timeout was nobody's doing. */
export function doneByHand(actions: Action[]): Action[] {
  return actions.filter(({ action, by }) => action !== "submit" && !(action === "cancel" && !by));
}

const DID: Record<string, string> = {
  cancel: "cancelled",
  "cancel task": "cancelled",
  "mark successful": "marked successful",
  "mark skipped": "marked skipped",
  retry: "retried",
};

/** What was done and by whom: "retried by ann from 10.0.0.7". */
export function said({ action, by }: Action): string {
  const did = DID[action] ?? action;
  if (!by) return did;
  return by.startsWith("replaced by ") ? `${did}, ${by}` : `${did} by ${by}`;
}
