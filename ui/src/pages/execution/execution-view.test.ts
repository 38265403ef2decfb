// @vitest-environment happy-dom
import { afterEach, expect, test, vi } from "vitest";
import type { Execution } from "../../model/live";
import type { State } from "../../model/states";
import type { TaskDetail } from "../../api/client";
import { concerned, ExecutionView } from "./execution-view";

afterEach(() => vi.unstubAllGlobals());

/** The execution at a version; its times are constant. */
function execution(version: number, state: State): Execution {
  const at = "2026-01-01T00:00:00Z";
  const base = { id: "e", job: "j", submitted: at, modifiedTimestamp: at, version, state, started: at, finished: null };
  const task = { name: "t", state, attempts: [], result: null, error: null };
  const rest = { params: {}, actions: [], after: [], reason: null, tasks: [task] };
  return { ...base, ...rest };
}

/** A server with one execution, and a stream controlled by the test. */
function serverWith(first: Execution) {
  const server = { now: first, requests: 0, since: [] as (string | null)[], say: (_: Execution) => {} };
  vi.stubGlobal("fetch", async (address: string) => {
    const [path, query] = address.split("?");
    if (!path!.endsWith("/executions/e")) return new Response(query ? '{"executions":[]}' : "{}");
    server.requests++;
    server.since.push(new URLSearchParams(query).get("since"));
    return new Response(JSON.stringify(server.now));
  });
  class Stream {
    onmessage: ((event: { data: string }) => void) | null = null;
    constructor() {
      server.say = (base) => this.onmessage?.({ data: JSON.stringify(base) });
    }
    close() {}
  }
  vi.stubGlobal("EventSource", Stream);
  return server;
}

test("an end at the same instant as the previous change is requested in full", async () => {
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

test("a response older than the stream does not revert it, and is requested again", async () => {
  const server = serverWith(execution(1, "running"));
  const view = new ExecutionView("e");
  const stop = view.start();
  await expect.poll(() => view.job.value).not.toBeNull();
  server.say(execution(3, "failed"));
  await expect.poll(() => view.cell.value!.state.value).toBe("failed");
  const requests = server.requests;
  await expect.poll(() => server.requests).toBeGreaterThan(requests);
  expect(view.cell.value!.state.value).toBe("failed");
  server.now = execution(3, "failed");
  await expect.poll(() => view.detail.value!.state).toBe("failed");
  stop();
});

test("an execution without tasks in its events shows the tasks of the responses", async () => {
  const base = (version: number, tasks: [string, State][], since: number | null) => ({
    ...execution(version, "running"),
    tasks: tasks.map(([name, state]) => ({ name, state, attempts: [], result: null, error: null, waiting: null })),
    dag: since === null ? { a: ["b"] } : {},
    since,
  });
  const server = serverWith(base(1, [["a", "running"], ["b", "notstarted"]], null));
  const view = new ExecutionView("e");
  const stop = view.start();
  await expect.poll(() => view.job.value).not.toBeNull();
  const dag = view.dag.value;
  server.now = base(3, [["a", "successful"]], 1);
  server.say({ ...execution(5, "running"), tasks: [] }); // the stream is ahead of the response
  await expect.poll(() => view.detail.value!.version).toBe(3);
  expect(server.since.slice(0, 2)).toEqual([null, "1"]);
  expect(view.cell.value!.task("a").value).toBe("successful");
  expect(view.detail.value!.tasks.map(({ name, state }) => [name, state])).toEqual([
    ["a", "successful"],
    ["b", "notstarted"],
  ]);
  expect(view.dag.value).toBe(dag);
  server.now = base(5, [["c", "running"]], 3);
  await expect.poll(() => view.tasks.value).toEqual(["a", "b", "c"]);
  stop();
});

test("hooks for another end are not shown, and those that run or were cancelled are", () => {
  const hook = (state: State, attempts: number) => ({ state, attempts: Array.from({ length: attempts }) }) as TaskDetail;
  expect(concerned(hook("skipped", 0))).toBe(false);
  expect(concerned(hook("notstarted", 0))).toBe(false);
  expect(concerned(hook("running", 1))).toBe(true);
  expect(concerned(hook("cancelled", 0))).toBe(true);
  expect(concerned(hook("skipped", 1))).toBe(true); // it ran before a retry
});
