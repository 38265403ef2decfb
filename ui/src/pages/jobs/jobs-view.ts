/**
 * What the list of jobs knows, kept while other pages are shown.
 *
 * Rule: of a job that is not seen only the newest execution is known; those before it are
 * asked for when its row is drawn, once per connection, for many rows in one request.
 */

import { computed, signal } from "@preact/signals";
import { now } from "../../app/clock";
import { chosen } from "../../app/router";
import { Board, type JobRow } from "../../model/board";
import { choiceOf, counts, listed, sortOf, type Known } from "../../model/listing";
import type { Notice } from "../../api/schema";
import { last } from "../../pieces/last";
import * as api from "../../api/client";
import { connection, listen } from "../../api/stream";

const REFRESH = 5000; // milliseconds between looks for fires that have passed
const GATHERS = 30; // milliseconds in which rows that come to be drawn are gathered
const MANY = 50; // jobs in one request

export const board = new Board();
export const failure = signal("");
export const notices = signal<Notice[]>([]);
/** What the server says of its own troubles; empty if all is well. */
export const trouble = signal("");

/** By how many executions each job's history has been asked for since the connection. */
let asked = new Map<string, number>();
let gathered = new Set<string>();

const known = ({ job }: JobRow): Known => {
  const { active, next, newest } = board.job(job);
  const execution = newest.value;
  return {
    active: active.value,
    next: next.value,
    newest: execution && { state: execution.state.value, submitted: execution.submitted },
  };
};

export const found = computed(() =>
  listed(
    board.rows.value ?? [],
    { words: chosen("find") ?? "", choice: choiceOf(chosen("only")), tag: chosen("tag"), sort: sortOf(chosen("sort")) },
    known,
  ),
);

export const numbers = computed(() => counts((board.rows.value ?? []).map(known)));

export const tags = computed(() => [...new Set(board.rows.value?.flatMap((row) => row.tags))].sort());

/** Starts loading and listening; the function it returns stops it. */
export function start(): () => void {
  document.title = "Jobs · goflow";
  const stop = listen(
    api.address("stream"),
    (execution) => board.apply(execution),
    () => void connected(),
  );
  const timer = setInterval(() => {
    refreshPassed();
    if (!document.hidden && connection.peek() === "live") void askHealth();
  }, REFRESH);
  return () => {
    stop();
    clearInterval(timer);
  };
}

async function connected(): Promise<void> {
  const drawn = [...asked.keys()];
  asked = new Map();
  await load();
  drawn.forEach(wantHistory);
}

async function load(): Promise<void> {
  void askHealth();
  try {
    board.overview(await api.getOverview(1));
    failure.value = "";
  } catch (error) {
    failure.value = (error as Error).message;
  }
}

async function askHealth(): Promise<void> {
  const told = await api.getHealth();
  if (!told) return; // The page already shows that the connection is lost.
  if ("error" in told) trouble.value = `${told.error.message} (${told.health})`;
  else {
    notices.value = told.notices;
    trouble.value = "";
  }
}

/** Requests the executions of a job that are shown, once. */
export function wantHistory(job: string): void {
  if ((asked.get(job) ?? 0) >= last()) return;
  asked.set(job, last());
  if (!gathered.size) setTimeout(() => void askHistories(), GATHERS);
  gathered.add(job);
}

async function askHistories(): Promise<void> {
  const jobs = [...gathered];
  gathered = new Set();
  for (let from = 0; from < jobs.length; from += MANY) {
    const some = jobs.slice(from, from + MANY);
    try {
      board.history(await api.getOverview(last(), some));
    } catch (error) {
      // They are requested again when the row renders again or the stream reconnects.
      for (const job of some) asked.delete(job);
      failure.value = (error as Error).message;
    }
  }
}

/** Reloads the jobs when the next due time of one has passed. */
function refreshPassed(): void {
  const at = now();
  const passed = board.rows.peek()?.some(({ job }) => {
    const { active, next } = board.job(job);
    const due = next.peek();
    return active.peek() && due !== null && Date.parse(due) < at;
  });
  if (passed && !document.hidden) void load();
}
