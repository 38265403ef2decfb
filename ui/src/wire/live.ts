/**
 * The one stream of a page.
 *
 * Rule: after every connection the page asks for the whole again (`onConnect`), so that
 * nothing that happened in between is missed. A hidden page holds no connection: browsers
 * allow only a few per server, and a reader may keep many tabs.
 */

import { signal } from "@preact/signals";
import { now } from "../app/clock";
import type { Execution } from "../model/board";

/** Whether the page hears from the server. */
export const connection = signal<"connecting" | "live" | "lost">("connecting");

/** When the page last stopped hearing from it, in milliseconds since 1970; 0 if never. */
export const lostAt = signal(0);

const AGAIN = 2000; // milliseconds between attempts once the browser has given up

/** Listens until the function it returns is called. */
export function listen(address: string, onExecution: (e: Execution) => void, onConnect: () => void): () => void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const ended = new AbortController();
  const { signal: until } = ended;

  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    const stream = (source = new EventSource(address));
    stream.onopen = () => {
      connection.value = "live";
      onConnect();
    };
    stream.onmessage = (message: MessageEvent<string>) => onExecution(JSON.parse(message.data) as Execution);
    stream.onerror = () => {
      if (connection.peek() !== "lost") lostAt.value = now();
      connection.value = "lost";
      if (stream.readyState === EventSource.CLOSED) timer = setTimeout(open, AGAIN);
    };
  };
  const look = () => {
    if (document.hidden) close();
    else if (!source) open();
  };
  document.addEventListener("visibilitychange", look, { signal: until });
  // A page that is left must not report the end of its own stream as a loss.
  addEventListener("pagehide", close, { signal: until });
  addEventListener("pageshow", (event) => event.persisted && open(), { signal: until });
  if (!document.hidden) open();
  return () => {
    ended.abort();
    close();
  };
}
