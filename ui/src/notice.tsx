/** One line that says what a button did, and one that says the server is gone. */

import { signal } from "@preact/signals";
import { connection } from "./live";

const STAYS = 6000; // milliseconds

const notice = signal<{ text: string; bad: boolean } | null>(null);
let timer: ReturnType<typeof setTimeout> | undefined;

export function announce(text: string, bad = false): void {
  notice.value = { text, bad };
  clearTimeout(timer);
  timer = setTimeout(() => (notice.value = null), STAYS);
}

/** A name inside a sentence: its own direction of writing cannot reach the words around it. */
export function quoted(name: string): string {
  return `“\u2068${name}\u2069”`;
}

/** Does `action` and says so, or says why it could not be done. */
export async function attempt<Result>(
  action: Promise<Result>,
  done: (result: Result) => string,
  undone: string,
): Promise<Result | undefined> {
  try {
    const result = await action;
    announce(done(result));
    return result;
  } catch (error) {
    announce(`${undone}: ${error instanceof Error ? error.message : String(error)}`, true);
    return undefined;
  }
}

export function Notices() {
  const lost = connection.value === "lost";
  return (
    <>
      <div class="lost" role="status">
        {lost && "The server does not answer. What you see may be out of date; trying again."}
      </div>
      <div class={`notice${notice.value?.bad ? " bad" : ""}`} role="status" aria-live="polite">
        {notice.value?.text}
      </div>
    </>
  );
}
