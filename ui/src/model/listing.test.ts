import { describe, expect, test } from "vitest";
import type { JobRow } from "./live";
import { choiceOf, counts, listed, sortOf, type Known, type Wanted } from "./listing";

const row = (job: string, more: Partial<JobRow> = {}): JobRow => ({
  job,
  schedule: null,
  schedules: [],
  after: [],
  timezone: "UTC",
  active: true,
  description: "",
  tags: [],
  next: null,
  params: false,
  executions: [],
  ...more,
});

const rows = [
  row("import", { tags: ["db"], description: "Fetches orders" }),
  row("Report", { tags: ["db", "mail"] }),
  row("cleanup"),
];

const known: Record<string, Known> = {
  import: { active: true, next: "2026-01-02T00:00:00Z", newest: { state: "failed", submitted: "2026-01-01T00:00:00Z" } },
  Report: { active: true, next: "2026-01-01T12:00:00Z", newest: { state: "successful", submitted: "2026-01-01T10:00:00Z" } },
  cleanup: { active: false, next: "2026-01-01T00:00:00Z", newest: null },
};

const names = (wanted: Partial<Wanted>) =>
  listed(rows, { words: "", choice: null, tag: null, sort: "registered", ...wanted }, ({ job }) => known[job]!).map(({ job }) => job);

describe("the list of jobs", () => {
  test("contains the jobs that match all words", () => {
    expect(names({ words: "  ORDERS db" })).toEqual(["import"]);
    expect(names({ words: "e" })).toEqual(["import", "Report", "cleanup"]);
    expect(names({ words: "nowhere" })).toEqual([]);
  });

  test("can be filtered by tag, state or schedule", () => {
    expect(names({ tag: "db" })).toEqual(["import", "Report"]);
    expect(names({ choice: "failed" })).toEqual(["import"]);
    expect(names({ choice: "off" })).toEqual(["cleanup"]);
  });

  test("has the requested order, with jobs without a sort key last", () => {
    expect(names({ sort: "name" })).toEqual(["Report", "cleanup", "import"]);
    expect(names({ sort: "next" })).toEqual(["Report", "import", "cleanup"]);
    expect(names({ sort: "newest" })).toEqual(["Report", "import", "cleanup"]);
  });

  test("counts the jobs of each filter", () => {
    expect(Object.fromEntries(counts(Object.values(known)))).toEqual({ on: 2, off: 1, failed: 1, successful: 1 });
  });

  test("an unknown filter in the URL is ignored", () => {
    expect([choiceOf("failed"), choiceOf("off"), choiceOf("__proto__"), choiceOf(null)]).toEqual(["failed", "off", null, null]);
    expect([sortOf("next"), sortOf("x"), sortOf(null)]).toEqual(["next", "registered", "registered"]);
  });
});
