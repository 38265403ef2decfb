/**
 * The one stream of a page.
 *
 * Rule: after every connection the page asks for the whole again (`onConnect`), so that
 * nothing that happened in between is missed. What comes within one frame is taken together,
 * of each execution only the newest. A hidden page holds no connection: browsers
 * allow only a few per server, and a reader may keep many tabs.
 */

import { batch, signal } from "@preact/signals";
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
  let heard = new Map<string, Execution>();
  const ended = new AbortController();
  const { signal: until } = ended;

  const take = () => {
    const all = heard;
    heard = new Map();
    batch(() => all.forEach((execution) => onExecution(execution)));
  };
  const hear = (message: MessageEvent<string>) => {
    if (!heard.size) requestAnimationFrame(take);
    const execution = JSON.parse(message.data) as Execution;
    if ((heard.get(execution.id)?.version ?? 0) <= execution.version) heard.set(execution.id, execution);
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
  // A page that is left must not report the end of its own stream as a loss.
  addEventListener("pagehide", close, { signal: until });
  addEventListener("pageshow", (event) => event.persisted && open(), { signal: until });
  if (!document.hidden) open();
  return () => {
    ended.abort();
    close();
  };
}
