/** Errors and results of tasks as text. Pure. */

import { write } from "./json";

export interface Failure {
  message: string;
  /** The traceback; empty if there is none. */
  trace: string;
}

/** Splits an error into its message, which comes first, and the Python traceback. */
export function failureOf(error: string): Failure {
  const found = /\n+(?=[ \t]*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\):)/.exec(error);
  if (!found) return { message: error.trimEnd(), trace: "" };
  return { message: error.slice(0, found.index).trimEnd(), trace: error.slice(found.index).replace(/^\n+/, "").trimEnd() };
}

const MAX_LINES = 24;
const MAX_CHARACTERS = 4000; // characters

/** A result as text: text as it is, other values as indented JSON. */
export function resultText(result: unknown): string {
  return typeof result === "string" ? result : write(result, 2);
}

/** The beginning of a long text; a short one unchanged. */
export function beginning(text: string): string {
  const lines = text.split("\n", MAX_LINES + 1);
  const some = lines.length > MAX_LINES ? lines.slice(0, MAX_LINES).join("\n") : text;
  if (some.length <= MAX_CHARACTERS) return some;
  // Never inside a surrogate pair.
  const cut = some.slice(0, MAX_CHARACTERS);
  return /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}
