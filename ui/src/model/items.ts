/** The items of a mapped task: their counts in words and as segments of a bar, and the loaded rows. Pure. */

import type { ItemDetail } from "../api/schema";
import { failureOf } from "./failure";
import { write } from "./json";
import { isFinished, LABEL, STATES, type State } from "./states";

/** The number of items in each state, and their `total`. */
export type Counts = Record<string, number>;

/** The order of states in bars and words: the desired one first. */
const ORDER: readonly State[] = ["successful", "failed", "cancelled", "skipped", "upforretry", "running"];

/** The number of items in `state`; items whose state is not listed have not started. */
export function countOf(counts: Counts, state: State): number {
  if (state !== "notstarted") return counts[state] ?? 0;
  return (counts.total ?? 0) - ORDER.reduce((sum, each) => sum + (counts[each] ?? 0), 0);
}

/** The counts in words: "29 of 30 items, 1 failed". */
export function countsText(counts: Counts): string {
  const total = counts.total ?? 0;
  if (total === 0) return "no items";
  const parts = ORDER.slice(1)
    .filter((state) => countOf(counts, state) > 0)
    .map((state) => `${whole(countOf(counts, state))} ${LABEL[state]}`);
  return [`${whole(countOf(counts, "successful"))} of ${whole(total)} ${total === 1 ? "item" : "items"}`, ...parts].join(", ");
}

/** The number of items that a generator has yielded, in words. */
export function yieldedText(items: number): string {
  return `${whole(items)} ${items === 1 ? "item" : "items"} yielded`;
}

const whole = (count: number) => count.toLocaleString("en");

const MIN_SHARE = 0.08; // of the bar, so that one failure among thousands is visible

export interface Segment {
  state: State;
  /** The left edge and the width, as shares of the bar. */
  from: number;
  share: number;
}

/** The bar of the counts; items that have not started leave its end empty. */
export function segmentsOf(counts: Counts): Segment[] {
  const total = counts.total ?? 0;
  const shown = ORDER.filter((state) => countOf(counts, state) > 0);
  const shares = shown.map((state) => Math.max(MIN_SHARE, countOf(counts, state) / total));
  const sum = shares.reduce((all, share) => all + share, 0);
  const scale = sum > 1 || countOf(counts, "notstarted") === 0 ? 1 / sum : 1;
  let from = 0;
  return shown.map((state, index) => {
    const share = shares[index]! * scale;
    from += share;
    return { state, from: from - share, share };
  });
}

/** The states of the filter: those of some item, and the selected one. */
export function statesOf(counts: Counts, selected: State | null): State[] {
  return [...STATES].filter((state) => state === selected || countOf(counts, state) > 0);
}

const LINE = 200; // characters of a row's error or result

/** The first line of the item's error or result, or why it was skipped. */
export function outcomeOf({ state, error, result, result_bytes, skip }: ItemDetail): string {
  if (skip) return skip.why.split("\n", 1)[0]!.slice(0, LINE);
  if (error) return failureOf(error).message.split("\n", 1)[0]!.slice(0, LINE);
  if (state !== "successful") return "";
  if (result === null && result_bytes > 4) return "large result";
  return (typeof result === "string" ? result : write(result)).split("\n", 1)[0]!.slice(0, LINE);
}

export type ItemAction = "cancel" | "retry" | "mark successful" | "mark skipped";

/**
 * The actions allowed on an item, by the server's rules: an item can be cancelled or marked only while
 * its task runs, and retried when the execution has ended.
 */
export function allowedItemActions(execution: State, task: State, item: State, waits = false): ItemAction[] {
  if (isFinished(execution)) return ["retry"];
  if (task !== "running") return [];
  const may: ItemAction[] = isFinished(item) ? [] : ["cancel"];
  if ((item !== "running" || waits) && item !== "successful") {
    may.push("mark successful");
    if (item !== "skipped") may.push("mark skipped");
  }
  return may;
}

/** The number of an item in a URL; null if there is none. */
export function itemNamed(text: string | null): number | null {
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/** The state named in a URL; null if there is none. */
export function stateNamed(text: string | null): State | null {
  return STATES.find((state) => state === text) ?? null;
}

/** The loaded rows of the list. Rows outdated by a change stay until they are loaded again. */
export class ItemRows {
  private readonly rows = new Map<number, { item: ItemDetail; age: number }>();
  /** Grows when rows are outdated. */
  private now = 0;

  get age(): number {
    return this.now;
  }

  at(row: number): ItemDetail | undefined {
    return this.rows.get(row)?.item;
  }

  get size(): number {
    return this.rows.size;
  }

  outdate(): void {
    this.now++;
  }

  /** The first row of [first, end) that is not loaded or outdated; null if there is none. */
  lacks(first: number, end: number): number | null {
    for (let row = first; row < end; row++) if (this.rows.get(row)?.age !== this.age) return row;
    return null;
  }

  /** Takes rows requested at the given age. */
  take(first: number, items: ItemDetail[], age = this.age): void {
    items.forEach((item, index) => this.rows.set(first + index, { item, age }));
  }

  /** Removes the rows from `end` on. */
  cut(end: number): void {
    for (const row of this.rows.keys()) if (row >= end) this.rows.delete(row);
  }
}
