/** Filtering and sorting of the list of jobs. Pure. */

import type { JobRow } from "./live";
import { STATES, type State } from "./states";

export const SORTS = ["registered", "name", "next", "newest"] as const;
export type Sort = (typeof SORTS)[number];

export const SWITCHES = ["on", "off"] as const;

/** A filter: the state of the newest execution, or of the schedule switch. */
export type Choice = State | (typeof SWITCHES)[number];

export interface Wanted {
  words: string;
  choice: Choice | null;
  tag: string | null;
  sort: Sort;
}

/** The changing values of a job. */
export interface Known {
  active: boolean;
  next: string | null;
  newest: { state: State; submitted: string } | null;
}

export function choiceOf(text: string | null): Choice | null {
  return [...STATES, ...SWITCHES].find((choice) => choice === text) ?? null;
}

export function sortOf(text: string | null): Sort {
  return SORTS.find((sort) => sort === text) ?? "registered";
}

/**
 * The rows that contain all words in name, description or tags, and match the filter and the tag.
 * `known` is called only for rows where it matters.
 */
export function listed(rows: JobRow[], wanted: Wanted, known: (row: JobRow) => Known): JobRow[] {
  const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
  const { choice, tag, sort } = wanted;
  const found = rows.filter((row) => {
    if (tag !== null && !row.tags.includes(tag)) return false;
    if (words.length) {
      const text = [row.job, row.description, ...row.tags].join("\n").toLowerCase();
      if (!words.every((word) => text.includes(word))) return false;
    }
    return choice === null || fits(choice, known(row));
  });
  if (sort === "registered") return found;
  if (sort === "name") return found.sort((a, b) => (a.job < b.job ? -1 : 1));
  const keys = new Map(found.map((row) => [row, key(sort, known(row))]));
  return found.sort((a, b) => {
    const [one, other] = [keys.get(a)!, keys.get(b)!];
    return one < other ? -1 : one > other ? 1 : 0;
  });
}

function fits(choice: Choice, { active, newest }: Known): boolean {
  if (choice === "on") return active;
  if (choice === "off") return !active;
  return newest?.state === choice;
}

/** The sort key; jobs without one come last. */
function key(sort: "next" | "newest", { active, next, newest }: Known): number {
  const at = sort === "next" ? (active ? next : null) : newest && newest.submitted;
  if (at === null) return Infinity;
  return sort === "next" ? Date.parse(at) : -Date.parse(at);
}

/** The number of jobs per filter, without zeros. */
export function counts(known: Known[]): Map<Choice, number> {
  const all = new Map<Choice, number>();
  const count = (choice: Choice) => all.set(choice, (all.get(choice) ?? 0) + 1);
  for (const { active, newest } of known) {
    count(active ? "on" : "off");
    if (newest) count(newest.state);
  }
  return all;
}
