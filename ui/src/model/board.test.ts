import { effect } from "@preact/signals";
import { describe, expect, test } from "vitest";
import { Board, JobCell, type Execution, type JobRow } from "./board";
import type { State } from "./states";

function execution(id: string, second: number, state: State, tasks: Record<string, State> = {}): Execution {
  const time = `2026-01-01T00:00:${String(second).padStart(2, "0")}Z`;
  return {
    id,
    job: "job",
    submitted: "2026-01-01T00:00:00Z",
    modifiedTimestamp: time,
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

  test("of two messages of the same instant the one that came later counts", () => {
    const job = new JobCell("job");
    job.apply([execution("a", 1, "running")]);
    job.apply([execution("a", 1, "failed")]);
    expect(job.execution("a")!.state.value).toBe("failed");
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
