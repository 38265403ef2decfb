// @vitest-environment happy-dom
import { afterEach, expect, test, vi } from "vitest";
import type { Execution } from "../../model/board";
import type { State } from "../../model/states";
import { ExecutionView } from "./execution-view";

afterEach(() => vi.unstubAllGlobals());

/** The execution at a version; the clock of its server stands still. */
function execution(version: number, state: State): Execution {
  const at = "2026-01-01T00:00:00Z";
  const told = { id: "e", job: "j", submitted: at, modifiedTimestamp: at, version, state, started: at, finished: null };
  const task = { name: "t", state, attempts: [], result: null, error: null };
  const rest = { params: {}, actions: [], after: [], reason: null, tasks: [task] };
  return { ...told, ...rest };
}

/** A server that knows one execution, and a stream that says what it is told to. */
function serverWith(first: Execution) {
  const server = { now: first, asked: 0, say: (_: Execution) => {} };
  vi.stubGlobal("fetch", async (address: string) => {
    if (!address.endsWith("/executions/e")) return new Response(address.includes("?") ? '{"executions":[]}' : "{}");
    server.asked++;
    return new Response(JSON.stringify(server.now));
  });
  class Stream {
    onmessage: ((event: { data: string }) => void) | null = null;
    constructor() {
      server.say = (told) => this.onmessage?.({ data: JSON.stringify(told) });
    }
    close() {}
  }
  vi.stubGlobal("EventSource", Stream);
  return server;
}

test("an end in the same instant as the change before it is asked for in full", async () => {
  const server = serverWith(execution(1, "running"));
  const view = new ExecutionView("e");
  const stop = view.start();
  await expect.poll(() => view.job.value).not.toBeNull();
  server.now = execution(2, "successful");
  server.say(server.now);
  await expect.poll(() => view.cell.value!.state.value).toBe("successful");
  await expect.poll(() => view.detail.value!.state).toBe("successful");
  stop();
});

test("an answer that is older than what the stream told does not take it back, and is asked for again", async () => {
  const server = serverWith(execution(1, "running"));
  const view = new ExecutionView("e");
  const stop = view.start();
  await expect.poll(() => view.job.value).not.toBeNull();
  server.say(execution(3, "failed"));
  await expect.poll(() => view.cell.value!.state.value).toBe("failed");
  const asked = server.asked;
  await expect.poll(() => server.asked).toBeGreaterThan(asked);
  expect(view.cell.value!.state.value).toBe("failed");
  server.now = execution(3, "failed");
  await expect.poll(() => view.detail.value!.state).toBe("failed");
  stop();
});
