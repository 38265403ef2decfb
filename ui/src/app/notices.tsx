/** Messages about actions, with undo where possible, and about a lost connection. */

import { signal } from "@preact/signals";
import { connection, lostAt } from "../api/stream";
import { second } from "./clock";
import { span } from "../model/time";

const STAYS = 8000; // milliseconds

interface Notice {
  text: string;
  bad: boolean;
  undo: (() => void) | null;
}

const notice = signal<Notice | null>(null);
let timer: ReturnType<typeof setTimeout> | undefined;

/** Shows `text` for a while; `undo` reverts the action. */
export function announce(text: string, { bad = false, undo = null as (() => void) | null } = {}): void {
  notice.value = { text, bad, undo };
  clearTimeout(timer);
  timer = setTimeout(dismiss, STAYS);
}

export function dismiss(): void {
  notice.value = null;
}

/** A quoted name in a sentence, isolated so that its writing direction does not affect the rest. */
export function quoted(name: string): string {
  return `“\u2068${name}\u2069”`;
}

/** Awaits `action` and shows a message: `done`, or `undone` with the reason. */
export async function attempt<Result>(
  action: Promise<Result>,
  done: (result: Result) => string,
  undone: string,
  undo: (() => void) | null = null,
): Promise<Result | undefined> {
  try {
    const result = await action;
    announce(done(result), { undo });
    return result;
  } catch (error) {
    announce(`${undone}: ${error instanceof Error ? error.message : String(error)}`, { bad: true });
    return undefined;
  }
}

export function Notices() {
  const { text, bad, undo } = notice.value ?? { text: "", bad: false, undo: null };
  return (
    <>
      <div class="lost" role="status">
        {connection.value === "lost" && <Lost />}
      </div>
      <div class={`notice${bad ? " bad" : ""}`} role="status" aria-live="polite">
        {text}
        {undo && (
          <button
            type="button"
            class="plain"
            onClick={() => {
              dismiss();
              undo();
            }}
          >
            Undo
          </button>
        )}
      </div>
    </>
  );
}

function Lost() {
  const seconds = Math.floor((second.value - lostAt.value) / 1000);
  return (
    <>
      No connection to the server{seconds > 0 && <span aria-hidden="true"> for {span(seconds * 1000)}</span>}. This page
      shows the last known state. Reconnecting.
    </>
  );
}
