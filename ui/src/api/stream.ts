/**
 * The event stream of a page.
 *
 * Rule: after each connection the page loads everything again (`onConnect`), so that it misses
 * nothing. Messages within one animation frame are applied together, only the newest of each
 * execution. A hidden page closes its connection, since browsers allow only a few per server.
 */

import { batch, signal } from "@preact/signals";
import { now } from "../app/clock";
import type { Execution } from "../model/live";

/** The state of the connection to the server. */
export const connection = signal<"connecting" | "live" | "lost">("connecting");

/** The time the connection was last lost, in milliseconds since 1970; 0 if never. */
export const lostAt = signal(0);

const AGAIN = 2000; // milliseconds until a new attempt after the browser gave up

/** Starts listening; the function it returns stops it. */
export function listen(address: string, onExecution: (e: Execution) => void, onConnect: () => void): () => void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let pending = new Map<string, Execution>();
  const ended = new AbortController();
  const { signal: until } = ended;

  const take = () => {
    const all = pending;
    pending = new Map();
    batch(() => all.forEach((execution) => onExecution(execution)));
  };
  const hear = (message: MessageEvent<string>) => {
    if (!pending.size) requestAnimationFrame(take);
    const execution = JSON.parse(message.data) as Execution;
    if ((pending.get(execution.id)?.version ?? 0) <= execution.version) pending.set(execution.id, execution);
  };
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
    stream.onmessage = hear;
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
  // Leaving the page must not show a lost connection.
  addEventListener("pagehide", close, { signal: until });
  addEventListener("pageshow", (event) => event.persisted && open(), { signal: until });
  if (!document.hidden) open();
  return () => {
    ended.abort();
    close();
  };
}
