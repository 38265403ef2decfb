import { describe, expect, test } from "vitest";
import { doneByHand, handles, said, type Handle } from "./hands";
import type { State } from "./states";

describe("by hand", () => {
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
  ] as [State, State, Handle[]][])("of a %s execution a %s task may be: %j", (execution, task, may) => {
    expect(handles(execution, task, false)).toEqual(may);
  });

  test("only a task that others follow can be retried without them", () => {
    expect(handles("failed", "failed", true)).toContain("retry alone");
    expect(handles("running", "failed", true)).not.toContain("retry alone");
  });

  test("what was done says by whom, and leaves out the submit and the end by a timeout", () => {
    const actions = [
      ["submit", "ann"],
      ["cancel", ""],
      ["mark skipped", "ann from 10.0.0.7"],
      ["cancel", "replaced by b-2"],
    ].map(([action, by]) => ({ at: "2026-01-01T00:00:00Z", action: action!, by: by!, task: null, params: null }));
    expect(doneByHand(actions).map(said)).toEqual(["marked skipped by ann from 10.0.0.7", "cancelled, replaced by b-2"]);
  });
});
