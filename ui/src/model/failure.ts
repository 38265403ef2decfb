/** What a task leaves behind, as people read it: an error by its message first, a result in full or cut. Pure. */

import { write } from "./json";

export interface Failure {
  message: string;
  /** Where it came from; empty if that was not said. */
  trace: string;
}

/** The server writes the message of an error first, and the traceback of Python below it. */
export function failureOf(error: string): Failure {
  const found = /\n+(?=[ \t]*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\):)/.exec(error);
  if (!found) return { message: error.trimEnd(), trace: "" };
  return { message: error.slice(0, found.index).trimEnd(), trace: error.slice(found.index).replace(/^\n+/, "").trimEnd() };
}

const MOST_LINES = 24;
const MOST = 4000; // characters

/** A result as text: text as it is, all else as JSON on lines of its own. */
export function resultText(result: unknown): string {
  return typeof result === "string" ? result : write(result, 2);
}

/** The beginning of a text that is too long to be shown at once; the same text if it is not. */
export function beginning(text: string): string {
  const lines = text.split("\n", MOST_LINES + 1);
  const some = lines.length > MOST_LINES ? lines.slice(0, MOST_LINES).join("\n") : text;
  if (some.length <= MOST) return some;
  // Never between the two halves of a character.
  const cut = some.slice(0, MOST);
  return /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}
