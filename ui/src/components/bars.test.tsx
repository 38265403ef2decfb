// @vitest-environment happy-dom
import { cleanup, render, screen } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import { LiveJob } from "../model/live";
import type { State } from "../model/states";
import { Bars } from "./bars";

afterEach(cleanup);

const one = (id: number, state: State, took: number | null) => ({
  id: `e${id}`,
  job: "j",
  state,
  submitted: `2026-11-21T12:00:0${id}Z`,
  modifiedTimestamp: `2026-11-21T12:00:0${id}Z`,
  version: id,
  started: `2026-11-21T12:00:0${id}Z`,
  finished: took === null ? null : new Date(Date.parse(`2026-11-21T12:00:0${id}Z`) + took).toISOString(),
});

test("bars are ordered oldest first, with heights and labels by duration", () => {
  const job = new LiveJob("j");
  job.apply([one(1, "successful", 1000), one(2, "failed", 4000)]);
  render(<Bars executions={job.executions.value} longest={4000} />);
  const bars = screen.getAllByRole("link");
  expect(bars.map((bar) => bar.getAttribute("href"))).toEqual(["./executions/e1", "./executions/e2"]);
  expect(bars[1]!.getAttribute("aria-label")).toMatch(/: failed, took 4\.0 s$/);
  const heights = bars.map((bar) => Number(bar.querySelector("rect")!.getAttribute("height")));
  expect(heights[0]).toBeLessThan(heights[1]!);
  // The colour is not the only sign of a failure.
  expect(bars.map((bar) => bar.querySelector("path.sign") !== null)).toEqual([false, true]);
});

test("a change updates only its bar, in place", async () => {
  const job = new LiveJob("j");
  job.apply([one(1, "successful", 1000), one(2, "running", null)]);
  render(<Bars executions={job.executions.value} longest={4000} />);
  const before = screen.getAllByRole("link");
  job.apply([{ ...one(2, "successful", 500), version: 9 }]);
  await expect.poll(() => before[1]!.getAttribute("data-state")).toBe("successful");
  expect(screen.getAllByRole("link")).toEqual(before);
});
