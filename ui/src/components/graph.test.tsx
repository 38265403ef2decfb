// @vitest-environment happy-dom
import { signal } from "@preact/signals";
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, expect, test, vi } from "vitest";
import type { State } from "../model/states";
import { Graph } from "./graph";

afterEach(cleanup);

const TASKS = ["a", "<b>", "c"];
const DAG = { a: ["<b>", "c"] };

function graph(selected: string | null) {
  const onPick = vi.fn();
  const cells = new Map(TASKS.map((name) => [name, signal<State>("notstarted")]));
  const { container } = render(<Graph tasks={TASKS} dag={DAG} cell={(name) => cells.get(name)} selected={selected} onPick={onPick} />);
  return { onPick, cells, container };
}

const node = (name: string) => screen.getByRole("button", { name });

test("a node shows its state, and a change renders only that node", async () => {
  const { cells } = graph(null);
  const other = node("a: not started");
  cells.get("<b>")!.value = "failed";
  expect((await screen.findByRole("button", { name: "<b>: failed" })).getAttribute("data-state")).toBe("failed");
  expect(node("a: not started")).toBe(other);
});

test("clicks and keys select", () => {
  const { onPick } = graph(null);
  fireEvent.click(node("c: not started"));
  fireEvent.keyDown(node("<b>: not started"), { key: "Enter" });
  fireEvent.keyDown(node("a: not started"), { key: " " });
  expect(onPick.mock.calls.flat()).toEqual(["c", "<b>", "a"]);
});

test("the Tab key stops once, and arrow keys move within", () => {
  graph("a");
  expect(TASKS.map((name) => node(`${name}: not started`).getAttribute("tabindex"))).toEqual(["0", "-1", "-1"]);
  node("a: not started").focus();
  fireEvent.keyDown(node("a: not started"), { key: "ArrowRight" });
  expect(["<b>: not started", "c: not started"]).toContain(document.activeElement!.getAttribute("aria-label"));
});

test("the edges of the selected task are highlighted", () => {
  const { container } = graph("a");
  expect(container.querySelectorAll(".edges:not(.lit) path")).toHaveLength(2);
  expect(container.querySelectorAll(".edges.lit path")).toHaveLength(2);
});

test("the buttons zoom and fit", async () => {
  const { container } = graph(null);
  const drawing = container.querySelector("svg > g")!;
  const before = drawing.getAttribute("transform");
  fireEvent.click(screen.getByRole("button", { name: "Zoom in" }));
  await vi.waitFor(() => expect(drawing.getAttribute("transform")).not.toBe(before));
  fireEvent.click(screen.getByRole("button", { name: "Fit the graph" }));
  await vi.waitFor(() => expect(drawing.getAttribute("transform")).toBe(before));
});

test("the edges to tasks that a branch did not choose are dashed", () => {
  const dag = { pick: ["x", "y"], x: [], y: [] };
  const { container } = render(
    <Graph tasks={["pick", "x", "y"]} dag={dag} choices={{ pick: ["x"] }} cell={() => undefined} selected={null} onPick={() => {}} />,
  );
  expect(container.querySelectorAll(".edges:not(.lit) path.rejected")).toHaveLength(1);
  expect(container.querySelectorAll(".edges:not(.lit) path:not(.rejected)")).toHaveLength(1);
});
