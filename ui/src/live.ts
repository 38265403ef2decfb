/**
 * The one stream of a page.
 *
 * Rule: after every connection the page asks for the whole again (`onConnect`), so that
 * nothing that happened in between is missed. A hidden page holds no connection: browsers
 * allow only a few per server, and a reader may keep many tabs.
 */

import { signal } from "@preact/signals";
import type { Execution } from "./board";

/** Whether the page hears from the server. */
export const connection = signal<"connecting" | "live" | "lost">("connecting");

const AGAIN = 2000; // milliseconds between attempts once the browser has given up

export function listen(address: string, onExecution: (e: Execution) => void, onConnect: () => void): void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

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
      connection.value = "lost";
      if (stream.readyState === EventSource.CLOSED) timer = setTimeout(open, AGAIN);
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!source) open();
  });
  // A page that is left must not report the end of its own stream as a loss.
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (!document.hidden) open();
}
