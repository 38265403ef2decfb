// @vitest-environment happy-dom
import { signal } from "@preact/signals";
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, expect, test, vi } from "vitest";
import { axisOf, barsOf } from "../../model/gantt";
import type { State } from "../../model/states";
import type { TaskDetail } from "../../api/client";
import { Gantt } from "./gantt";

afterEach(cleanup);

const T0 = Date.parse("2026-11-21T03:00:00Z");
const at = (seconds: number) => new Date(T0 + seconds * 1000).toISOString();

function task(name: string, state: State, ...attempts: [from: number, to: number, state: State][]): TaskDetail {
  return {
    name,
    state,
    started: null,
    finished: attempts.length ? at(attempts.at(-1)![1]) : at(9),
    error: null,
    result: null,
    result_bytes: 0,
    waiting: null,
    retries: 0,
    trigger_rule: "allSuccessful",
    operator: null,
    interruptions: 0,
    attempts: attempts.map(([from, to, its], index) => ({
      attempt: index + 1,
      state: its,
      started: at(from),
      finished: at(to),
      error: null,
      retry_at: null,
      interrupted: false,
    })),
  };
}

function chart(tasks: TaskDetail[], selected: string | null) {
  const [onPick, onOpen] = [vi.fn(), vi.fn()];
  const bars = barsOf(tasks, {}, T0, []);
  const cells = new Map(tasks.map(({ name, state }) => [name, signal(state)]));
  render(
    <Gantt
      tasks={tasks}
      bars={bars}
      axis={axisOf(bars.values(), T0, T0 + 10_000, null)}
      cell={(name) => cells.get(name)}
      selected={selected}
      onPick={onPick}
      onOpen={onOpen}
    />,
  );
  return { onPick, onOpen, cells, list: screen.getByRole("listbox") };
}

const FEW = [
  task("a", "successful", [0, 4, "successful"]),
  task("<b>", "failed", [4, 5, "failed"], [7, 9, "failed"]),
  task("c", "skipped"),
];

test("each task is a row with its state in words, and a bar for each attempt and wait", () => {
  chart(FEW, "<b>");
  expect(screen.getAllByRole("option").map((row) => row.textContent)).toEqual([
    "a: successful,4.0 s",
    "<b>: failed, 2 attempts,3.0 s",
    "c: skipped,",
  ]);
  const row = screen.getByRole("option", { selected: true });
  expect([...row.querySelectorAll(".state-bar")].map((bar) => bar.getAttribute("title"))).toEqual([
    "waits for a slot: 4.0 s",
    "attempt 1 failed: 1.0 s",
    "waits for a retry: 2.0 s",
    "attempt 2 failed: 2.0 s",
  ]);
  expect(row.querySelector<HTMLElement>('[data-kind="attempt"]')!.style.left).toBe("40%");
  expect(row.querySelector(".label b")).toBeNull();
});

test("a changed state updates its row", async () => {
  const { cells } = chart(FEW, null);
  cells.get("a")!.value = "running";
  await screen.findByRole("option", { name: /a.*: running/ });
});

test("arrow keys and clicks select, and Enter opens the log", () => {
  const { onPick, onOpen, list } = chart(FEW, "<b>");
  fireEvent.keyDown(list, { key: "ArrowDown" });
  fireEvent.keyDown(list, { key: "ArrowUp" });
  fireEvent.keyDown(list, { key: "End" });
  fireEvent.click(screen.getByRole("option", { name: /a.*: successful/ }));
  expect(onPick.mock.calls.flat()).toEqual(["c", "a", "c", "a"]);
  fireEvent.keyDown(list, { key: "Enter" });
  expect(onOpen).toHaveBeenCalledOnce();
});

test("only visible tasks of a thousand render", () => {
  chart(Array.from({ length: 1000 }, (_, n) => task(`t${n}`, "successful", [0, 1, "successful"])), null);
  const rows = screen.getAllByRole("option");
  expect(rows.length).toBeLessThan(60);
  expect(rows[0]!.getAttribute("aria-setsize")).toBe("1000");
});
