import { describe, expect, test } from "vitest";
import { manualActions, allowedActions, describeAction, type TaskAction } from "./actions";
import type { State } from "./states";

describe("manual actions", () => {
  test.each([
    ["running", "running", ["cancel"]],
    ["running", "notstarted", ["cancel", "mark successful", "mark skipped"]],
    ["running", "upforretry", ["cancel", "mark successful", "mark skipped"]],
    ["running", "successful", []],
    ["running", "failed", ["mark successful", "mark skipped"]],
    ["failed", "failed", ["retry", "mark successful", "mark skipped"]],
    ["failed", "skipped", ["retry", "mark successful"]],
    ["cancelled", "cancelled", ["retry", "mark successful", "mark skipped"]],
    ["successful", "successful", ["retry"]],
  ] as [State, State, TaskAction[]][])("of a %s execution a %s task may be: %j", (execution, task, may) => {
    expect(allowedActions(execution, task, false)).toEqual(may);
  });

  test("only a task with downstream tasks can be retried alone", () => {
    expect(allowedActions("failed", "failed", true)).toContain("retry alone");
    expect(allowedActions("running", "failed", true)).not.toContain("retry alone");
    expect(allowedActions("running", "running", false, true)).toEqual(["cancel", "mark successful", "mark skipped"]);
  });

  test("actions name their users, without the submit and the cancel by a timeout", () => {
    const actions = [
      ["submit", "ann"],
      ["cancel", ""],
      ["mark skipped", "ann from 10.0.0.7"],
      ["cancel", "replaced by b-2"],
    ].map(([action, by]) => ({ at: "2026-01-01T00:00:00Z", action: action!, by: by!, task: null, params: null }));
    expect(describeAction({ at: "", action: "retry", by: "ann", task: null, params: null, definition: "newest" })).toBe("retried with the newest definition by ann");
    expect(manualActions(actions).map(describeAction)).toEqual(["marked skipped by ann from 10.0.0.7", "cancelled, replaced by b-2"]);
  });
});
