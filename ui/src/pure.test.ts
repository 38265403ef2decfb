import { describe, expect, test } from "vitest";
import { doneByHand, handles, said, type Handle } from "./hands";
import { draw, fit } from "./layout";
import { newest } from "./news";
import { parsed } from "./parameters";
import { jobHref, lastOf, routeOf, withChoice } from "./route";
import { tally, type State } from "./states";
import { inRuns, OUTCOME_SIGN, OUTCOMES, outcomeOf, tallyOf, type Outcome, type Tick } from "./ticks";
import { instant, local, span } from "./time";

const measure = (text: string) => [...text].length * 7;

describe("times", () => {
  test("order as the instants do, however many digits were written", () => {
    const times = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"];
    expect([...times].reverse().map(instant).sort()).toEqual(times.map(instant));
    expect(instant("2026-01-01T00:00:00+00:00")).toBe(instant("2026-01-01T00:00:00.000Z"));
  });

  test.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [1000, "1.0 s"],
    [59_949, "59.9 s"],
    [59_960, "1 min"],
    [185_000, "3 min 5 s"],
    [3_600_000, "1 h"],
    [7_800_000, "2 h 10 min"],
    [360_000_000, "4 d 4 h"],
  ])("%d ms is %s", (milliseconds, words) => expect(span(milliseconds)).toBe(words));

  test("the day is left out today, and the year this year", () => {
    const now = new Date(2026, 5, 15, 12);
    expect(local(new Date(2026, 5, 15, 9, 5, 7).toISOString(), now, "en-GB")).toBe("09:05:07");
    expect(local(new Date(2026, 1, 3, 9, 5, 7).toISOString(), now, "en-GB")).toBe("3 Feb, 09:05:07");
    expect(local(new Date(2025, 1, 3, 9, 5, 7).toISOString(), now, "en-GB")).toBe("3 Feb 2025, 09:05:07");
    expect(local("garbage", now)).toBe("garbage");
  });
});

describe("addresses", () => {
  test.each(["plain", "a/b", "<b>&\"'", "100%", "%2F", "مرحبا", "a b?c#d", "日本語"])("%s names a page and comes back", (name) => {
    const path = new URL(jobHref(name), "http://host/some/where/ui/").pathname;
    expect(routeOf(path, "/some/where/ui/")).toEqual({ page: "job", name });
  });

  test("what is not a page is known as that", () => {
    expect(routeOf("/ui/", "/ui/")).toEqual({ page: "jobs" });
    for (const path of ["/ui/jobs/", "/ui/else", "/ui/jobs/%E0%A4%A"])
      expect(routeOf(path, "/ui/")).toEqual({ page: "unknown" });
  });

  test("the number of executions is one of those offered", () => {
    expect(["?last=50", "", "?last=7", "?last=1e9", "?last=x"].map(lastOf)).toEqual([50, 25, 25, 25, 25]);
  });

  test("a choice is put in, replaced and taken out", () => {
    expect(withChoice("", "last", "50")).toBe("?last=50");
    expect(withChoice("?last=50&task=a%20b", "last", "10")).toBe("?last=10&task=a+b");
    expect(withChoice("?last=50", "last", null)).toBe("");
  });
});

test("a tally says how many of each state", () => {
  expect(tally(["failed", "successful", "successful"])).toBe("2 successful, 1 failed");
  expect(tally([])).toBe("none yet");
});

describe("parameters", () => {
  test("only what was changed is submitted, text as text and all else as JSON", () => {
    const defaults = { country: "de", limit: 10, tags: ["a"] };
    expect(parsed(defaults, { country: "12", limit: "20", tags: '["a"]' })).toEqual({ country: "12", limit: 20 });
  });

  test("what is not JSON is refused by name", () => {
    expect(() => parsed({ limit: 10 }, { limit: "ten" })).toThrow("parameter limit must be JSON, not ten");
  });
});

describe("the graph", () => {
  const many = Array.from({ length: 1000 }, (_, n) => `task-${n}`);

  test.each([
    ["a diamond", ["a", "b", "c", "d"], { a: ["b", "c"], b: ["d"], c: ["d"], d: [] }],
    ["a thousand tasks", many, Object.fromEntries(many.map((name, n) => [name, n + 100 < 1000 ? [many[n + 100]!, many[900 + (n % 100)]!] : []]))],
  ] as [string, string[], Record<string, string[]>][])("of %s has every task right of all it waits for, and none on another", (_, tasks, dag) => {
    const { nodes, edges, width, height } = draw(tasks, dag, measure);
    const at = new Map(nodes.map((node) => [node.name, node]));
    expect(edges.length).toBeGreaterThanOrEqual(4);
    for (const { from, to } of edges) expect(at.get(to)!.x).toBeGreaterThan(at.get(from)!.x + at.get(from)!.width);
    const places = new Set(nodes.map(({ x, y }) => `${Math.round(x)} ${Math.round(y)}`));
    expect(places.size).toBe(tasks.length);
    for (const node of nodes) {
      expect(node.x).toBeGreaterThanOrEqual(0);
      expect(node.y).toBeGreaterThanOrEqual(0);
      expect(node.x + node.width).toBeLessThanOrEqual(width);
      expect(node.y + node.height).toBeLessThanOrEqual(height);
    }
  });

  test("takes tasks named like what every object has", () => {
    const { nodes, edges } = draw(["__proto__", "constructor"], JSON.parse('{"__proto__":["constructor"]}'), measure);
    expect(nodes.map(({ name }) => name)).toEqual(["__proto__", "constructor"]);
    expect(edges).toHaveLength(1);
  });

  test("a long name is cut to its room, between characters", () => {
    expect(fit("short", 70, measure)).toBe("short");
    expect(fit("👩‍🔬".repeat(20), 70, measure)).toMatch(/…$/);
    expect(measure(fit("x".repeat(250), 70, measure))).toBeLessThanOrEqual(70);
    expect(fit("😀😀😀", 15, measure)).toBe("😀…");
  });
});

describe("due times", () => {
  const tick = (outcome: Outcome, count = 1): Tick => ({
    due: "2026-01-01T00:00:00Z",
    outcome,
    at: "2026-01-01T00:00:00Z",
    reason: "",
    count,
    until: null,
    execution: null,
    into: null,
  });

  test("a run of missed ones says how many", () => {
    expect(outcomeOf(tick("missed"))).toBe("missed");
    expect(outcomeOf(tick("missed", 1440))).toBe("missed 1,440 times");
  });

  test("those that did not fire for the same reason stand in one row, those that did in one each", () => {
    const at = (second: number, outcome: Outcome, reason = ""): Tick => ({
      ...tick(outcome),
      due: `2026-01-01T00:00:0${second}Z`,
      reason,
      execution: outcome === "fired" ? `id-${second}` : null,
    });
    const runs = inRuns([
      { ...at(6, "skipped", "busy"), count: 3, until: "2026-01-01T00:00:08Z" },
      at(5, "skipped", "busy"),
      at(4, "skipped", "full"),
      at(3, "skipped", "busy"),
      at(2, "skipped", "busy"),
      at(1, "fired"),
      at(0, "fired"),
    ]);
    expect(runs.map(({ due, until, count }) => [due.slice(18, 19), until?.slice(18, 19), count])).toEqual([
      ["5", "8", 4],
      ["4", undefined, 1],
      ["2", "3", 2],
      ["1", undefined, 1],
      ["0", undefined, 1],
    ]);
  });

  test("the tally counts due times, not rows", () => {
    expect(tallyOf([tick("fired"), tick("missed", 40), tick("fired"), tick("missed")])).toBe("2 fired, 41 missed");
  });

  test("each outcome has a sign of its own", () => {
    expect(new Set(OUTCOMES.map((outcome) => OUTCOME_SIGN[outcome])).size).toBe(OUTCOMES.length);
  });
});

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
    ].map(([action, by]) => ({ at: "2026-01-01T00:00:00Z", action: action!, by: by!, task: null }));
    expect(doneByHand(actions).map(said)).toEqual(["marked skipped by ann from 10.0.0.7", "cancelled, replaced by b-2"]);
  });
});

test("of what the server noticed, the newest of a day is told, and how many more there are", () => {
  const notices = ["2026-01-01T00:00:00Z", "2026-01-02T11:00:00Z", "2026-01-02T12:00:00Z"].map((at) => ({ at, text: at }));
  const at = (time: string) => newest(notices, Date.parse(time));
  expect(at("2026-01-02T13:00:00Z")).toEqual({ notice: notices[2], others: 1 });
  expect(at("2026-01-03T11:30:00Z")).toEqual({ notice: notices[2], others: 0 });
  expect(at("2026-01-03T12:00:00Z")).toBeNull();
  expect(newest([], 0)).toBeNull();
});
