import { effect } from "@preact/signals";
import { describe, expect, test } from "vitest";
import { Board, JobCell, type Execution, type JobRow } from "./board";
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
  return { job, schedule: null, timezone: "UTC", active: false, description: "", tags: [], next: null, params: false, executions };
}

describe("one execution", () => {
  test("the same message twice changes nothing", () => {
    const job = new JobCell("job");
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

  test("an older message than the one held is ignored", () => {
    const job = new JobCell("job");
    job.apply([execution("a", 2, "successful", { one: "successful" })]);
    job.apply([execution("a", 1, "running", { one: "running" })]);
    expect(job.execution("a")!.state.value).toBe("successful");
    expect(job.execution("a")!.task("one").value).toBe("successful");
  });

  test("a state is not overtaken by an older one, whatever the clock said, in whatever order they come", () => {
    // It runs, ends in the same instant, and is sent round again after the clock was set back.
    const told: [number, State, string][] = [
      [1, "notstarted", "2026-01-01T00:00:10Z"],
      [2, "running", "2026-01-01T00:00:10.5Z"],
      [3, "successful", "2026-01-01T00:00:10.5Z"],
      [4, "notstarted", "2026-01-01T00:00:03Z"],
      [5, "failed", "2026-01-01T00:00:03Z"],
    ];
    const messages = told.map(([version, state, modifiedTimestamp]) => ({ ...execution("a", version, state), modifiedTimestamp }));
    const orders = <T>(of: T[]): T[][] => (of.length ? of.flatMap((one) => orders(of.filter((other) => other !== one)).map((rest) => [one, ...rest])) : [[]]);
    for (const order of orders(messages)) {
      const job = new JobCell("job");
      order.forEach((message, index) => {
        job.apply([message]);
        const newest = order.slice(0, index + 1).reduce((a, b) => (a.version > b.version ? a : b));
        expect(job.execution("a")!.state.value).toBe(newest.state);
      });
    }
  });

  test("what comes again of the same version may tell more", () => {
    const job = new JobCell("job");
    const { tasks: _, ...mark } = execution("a", 1, "running");
    job.apply([mark]);
    job.apply([{ ...execution("a", 1, "running", { one: "running" }), cause: "api" }]);
    expect(job.execution("a")!.task("one").value).toBe("running");
    expect(job.execution("a")!.cause.value).toBe("api");
  });

  test("a message in brief leaves the tasks as they were", () => {
    const job = new JobCell("job");
    job.apply([execution("a", 1, "running", { one: "running" })]);
    const { tasks: _, ...brief } = execution("a", 2, "running");
    job.apply([brief]);
    expect(job.execution("a")!.task("one").value).toBe("running");
  });

  test("a change of one task draws only that task again", () => {
    const job = new JobCell("job");
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

  test("executions stand newest first, in whatever order they come", () => {
    const job = new JobCell("job");
    job.apply([numbered(2), numbered(9)]);
    job.apply([numbered(5)]);
    expect(job.executions.value.map(({ id }) => id)).toEqual(["id-9", "id-5", "id-2"]);
  });

  test("the newest hundred are kept, and an older one does not push them out", () => {
    const job = new JobCell("job");
    for (let n = 20; n < 150; n++) job.apply([numbered(n)]);
    job.apply([numbered(1)]);
    expect(job.executions.value).toHaveLength(100);
    expect(job.executions.value[0]!.id).toBe("id-149");
    expect(job.executions.value[99]!.id).toBe("id-50");
    expect(job.execution("id-1")).toBeUndefined();
  });
});

describe("the board", () => {
  test("an overview that describes the same jobs does not draw the rows again", () => {
    const board = new Board();
    board.overview([row("a"), row("b")]);
    const before = board.rows.value;
    board.overview([{ ...row("a"), active: true, next: "2026-01-01T00:00:00Z" }, row("b")]);
    expect(board.rows.value).toBe(before);
    expect(board.job("a").active.value).toBe(true);
  });

  test("a message about a job that is not on the board is ignored", () => {
    const board = new Board();
    board.overview([row("a")]);
    board.apply(execution("x", 1, "running"));
    expect(board.job("job").executions.value).toEqual([]);
  });

  test("jobs may be named like what every object has", () => {
    const board = new Board();
    board.overview([row("__proto__"), row("constructor")]);
    board.apply({ ...execution("x", 1, "running", { ["toString" as string]: "failed" }), job: "__proto__" });
    expect(board.job("__proto__").execution("x")!.task("toString").value).toBe("failed");
    expect(board.job("constructor").executions.value).toEqual([]);
  });
});
