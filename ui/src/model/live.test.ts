import { effect } from "@preact/signals";
import { describe, expect, test } from "vitest";
import { LiveState, LiveJob, type Execution, type JobRow } from "./live";
import type { State } from "./states";

function execution(id: string, version: number, state: State, tasks: Record<string, State> = {}): Execution {
  return {
    id,
    job: "job",
    submitted: "2026-01-01T00:00:00Z",
    modifiedTimestamp: "2026-01-01T00:00:00Z",
    version,
    state,
    tasks: Object.entries(tasks).map(([name, state]) => ({ name, state })),
  };
}

function row(job: string, executions: JobRow["executions"] = []): JobRow {
  return { job, schedule: null, schedules: [], after: [], timezone: "UTC", active: false, description: "", tags: [], next: null, params: false, executions };
}

describe("one execution", () => {
  test("the same message twice changes nothing", () => {
    const job = new LiveJob("job");
    const message = execution("a", 1, "running", { one: "running" });
    job.apply([message]);
    let drawn = 0;
    effect(() => {
      void [job.executions.value, job.execution("a")!.state.value, job.execution("a")!.task("one").value];
      drawn++;
    });
    job.apply([structuredClone(message)]);
    expect(drawn).toBe(1);
  });

  test("a message older than the current state is ignored", () => {
    const job = new LiveJob("job");
    job.apply([execution("a", 2, "successful", { one: "successful" })]);
    job.apply([execution("a", 1, "running", { one: "running" })]);
    expect(job.execution("a")!.state.value).toBe("successful");
    expect(job.execution("a")!.task("one").value).toBe("successful");
  });

  test("an older state never replaces a newer one, for any clock and order", () => {
    // It runs, ends at the same instant, and is retried after the clock was set back.
    const history: [number, State, string][] = [
      [1, "notstarted", "2026-01-01T00:00:10Z"],
      [2, "running", "2026-01-01T00:00:10.5Z"],
      [3, "successful", "2026-01-01T00:00:10.5Z"],
      [4, "notstarted", "2026-01-01T00:00:03Z"],
      [5, "failed", "2026-01-01T00:00:03Z"],
    ];
    const messages = history.map(([version, state, modifiedTimestamp]) => ({ ...execution("a", version, state), modifiedTimestamp }));
    const orders = <T>(of: T[]): T[][] => (of.length ? of.flatMap((one) => orders(of.filter((other) => other !== one)).map((rest) => [one, ...rest])) : [[]]);
    for (const order of orders(messages)) {
      const job = new LiveJob("job");
      order.forEach((message, index) => {
        job.apply([message]);
        const newest = order.slice(0, index + 1).reduce((a, b) => (a.version > b.version ? a : b));
        expect(job.execution("a")!.state.value).toBe(newest.state);
      });
    }
  });

  test("a message of the same version may add details", () => {
    const job = new LiveJob("job");
    const { tasks: _, ...mark } = execution("a", 1, "running");
    job.apply([mark]);
    job.apply([{ ...execution("a", 1, "running", { one: "running" }), cause: "api" }]);
    expect(job.execution("a")!.task("one").value).toBe("running");
    expect(job.execution("a")!.cause.value).toBe("api");
  });

  test("a message without tasks keeps the tasks", () => {
    const job = new LiveJob("job");
    job.apply([execution("a", 1, "running", { one: "running" })]);
    const { tasks: _, ...brief } = execution("a", 2, "running");
    job.apply([brief]);
    expect(job.execution("a")!.task("one").value).toBe("running");
  });

  test("a change of a task renders only that task", () => {
    const job = new LiveJob("job");
    job.apply([execution("a", 1, "running", { one: "running", two: "notstarted" })]);
    const drawn = { list: 0, whole: 0, one: 0, two: 0 };
    const cell = job.execution("a")!;
    effect(() => (void job.executions.value, void drawn.list++));
    effect(() => (void cell.state.value, void drawn.whole++));
    effect(() => (void cell.task("one").value, void drawn.one++));
    effect(() => (void cell.task("two").value, void drawn.two++));
    job.apply([execution("a", 2, "running", { one: "successful", two: "notstarted" })]);
    expect(drawn).toEqual({ list: 1, whole: 1, one: 2, two: 1 });
  });
});

describe("one job", () => {
  const numbered = (n: number): Execution => ({
    ...execution(`id-${n}`, 0, "successful"),
    submitted: `2026-01-01T00:${String(Math.floor(n / 60)).padStart(2, "0")}:${String(n % 60).padStart(2, "0")}Z`,
  });

  test("executions are sorted newest first, in any order of arrival", () => {
    const job = new LiveJob("job");
    job.apply([numbered(2), numbered(9)]);
    job.apply([numbered(5)]);
    expect(job.executions.value.map(({ id }) => id)).toEqual(["id-9", "id-5", "id-2"]);
  });

  test("the newest hundred are kept, and an older one does not evict them", () => {
    const job = new LiveJob("job");
    for (let n = 20; n < 150; n++) job.apply([numbered(n)]);
    job.apply([numbered(1)]);
    expect(job.executions.value).toHaveLength(100);
    expect(job.executions.value[0]!.id).toBe("id-149");
    expect(job.executions.value[99]!.id).toBe("id-50");
    expect(job.execution("id-1")).toBeUndefined();
  });
});

describe("the live state", () => {
  test("an overview of the same jobs does not render the rows again", () => {
    const liveState = new LiveState();
    liveState.overview([row("a"), row("b")]);
    const before = liveState.rows.value;
    liveState.overview([{ ...row("a"), active: true, next: "2026-01-01T00:00:00Z" }, row("b")]);
    expect(liveState.rows.value).toBe(before);
    expect(liveState.job("a").active.value).toBe(true);
  });

  test("a message about an unknown job is ignored", () => {
    const liveState = new LiveState();
    liveState.overview([row("a")]);
    liveState.apply(execution("x", 1, "running"));
    expect(liveState.job("job").executions.value).toEqual([]);
  });

  test("jobs may be named like properties of Object", () => {
    const liveState = new LiveState();
    liveState.overview([row("__proto__"), row("constructor")]);
    liveState.apply({ ...execution("x", 1, "running", { ["toString" as string]: "failed" }), job: "__proto__" });
    expect(liveState.job("__proto__").execution("x")!.task("toString").value).toBe("failed");
    expect(liveState.job("constructor").executions.value).toEqual([]);
  });
});
