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
  const server = { now: first, asked: 0, since: [] as (string | null)[], say: (_: Execution) => {} };
  vi.stubGlobal("fetch", async (address: string) => {
    const [path, query] = address.split("?");
    if (!path!.endsWith("/executions/e")) return new Response(query ? '{"executions":[]}' : "{}");
    server.asked++;
    server.since.push(new URLSearchParams(query).get("since"));
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

test("an execution whose events have no tasks shows what its page asked for, task by task", async () => {
  const told = (version: number, tasks: [string, State][], since: number | null) => ({
    ...execution(version, "running"),
    tasks: tasks.map(([name, state]) => ({ name, state, attempts: [], result: null, error: null, waiting: null })),
    dag: since === null ? { a: ["b"] } : {},
    since,
  });
  const server = serverWith(told(1, [["a", "running"], ["b", "notstarted"]], null));
  const view = new ExecutionView("e");
  const stop = view.start();
  await expect.poll(() => view.job.value).not.toBeNull();
  const dag = view.dag.value;
  server.now = told(3, [["a", "successful"]], 1);
  server.say({ ...execution(5, "running"), tasks: [] }); // the stream is ahead of the answer
  await expect.poll(() => view.detail.value!.version).toBe(3);
  expect(server.since.slice(0, 2)).toEqual([null, "1"]);
  expect(view.cell.value!.task("a").value).toBe("successful");
  expect(view.detail.value!.tasks.map(({ name, state }) => [name, state])).toEqual([
    ["a", "successful"],
    ["b", "notstarted"],
  ]);
  expect(view.dag.value).toBe(dag);
  server.now = told(5, [["c", "running"]], 3);
  await expect.poll(() => view.tasks.value).toEqual(["a", "b", "c"]);
  stop();
});
