/**
 * The state of the list of jobs, kept while other pages are shown.
 *
 * Rule: jobs that are not visible have only their newest execution. Older ones are requested when
 * the row renders, once per connection, for many rows in one request.
 */

import { computed, signal } from "@preact/signals";
import { now } from "../../app/clock";
import { chosen } from "../../app/router";
import { LiveState, type JobRow } from "../../model/live";
import { choiceOf, counts, listed, sortOf, type Known } from "../../model/listing";
import type { Notice } from "../../api/schema";
import { last } from "../../components/last";
import * as api from "../../api/client";
import { connection, listen } from "../../api/stream";

const REFRESH = 5000; // milliseconds between checks for passed due times
const COLLECT = 30; // milliseconds in which requests of rendered rows are collected
const MANY = 50; // jobs in one request

export const liveState = new LiveState();
export const failure = signal("");
export const notices = signal<Notice[]>([]);
/** The server's health problem; empty if it is healthy. */
export const trouble = signal("");

/** The number of executions requested per job since the last connection. */
let requested = new Map<string, number>();
let pending = new Set<string>();

const known = ({ job }: JobRow): Known => {
  const { active, next, newest } = liveState.job(job);
  const execution = newest.value;
  return {
    active: active.value,
    next: next.value,
    newest: execution && { state: execution.state.value, submitted: execution.submitted },
  };
};

export const found = computed(() =>
  listed(
    liveState.rows.value ?? [],
    { words: chosen("find") ?? "", choice: choiceOf(chosen("only")), tag: chosen("tag"), sort: sortOf(chosen("sort")) },
    known,
  ),
);

export const numbers = computed(() => counts((liveState.rows.value ?? []).map(known)));

export const tags = computed(() => [...new Set(liveState.rows.value?.flatMap((row) => row.tags))].sort());

/** Starts loading and listening; the function it returns stops it. */
export function start(): () => void {
  document.title = "Jobs · goflow";
  const stop = listen(
    api.address("stream"),
    (execution) => liveState.apply(execution),
    () => void connected(),
  );
  const timer = setInterval(() => {
    reloadIfDue();
    if (!document.hidden && connection.peek() === "live") void loadHealth();
  }, REFRESH);
  return () => {
    stop();
    clearInterval(timer);
  };
}

async function connected(): Promise<void> {
  const rendered = [...requested.keys()];
  requested = new Map();
  await load();
  rendered.forEach(requestHistory);
}

async function load(): Promise<void> {
  void loadHealth();
  try {
    liveState.overview(await api.getOverview(1));
    failure.value = "";
  } catch (error) {
    failure.value = (error as Error).message;
  }
}

async function loadHealth(): Promise<void> {
  const health = await api.getHealth();
  if (!health) return; // The page already shows that the connection is lost.
  if ("error" in health) trouble.value = `${health.error.message} (${health.health})`;
  else {
    notices.value = health.notices;
    trouble.value = "";
  }
}

/** Requests the executions of a job that are shown, once. */
export function requestHistory(job: string): void {
  if ((requested.get(job) ?? 0) >= last()) return;
  requested.set(job, last());
  if (!pending.size) setTimeout(() => void loadHistories(), COLLECT);
  pending.add(job);
}

async function loadHistories(): Promise<void> {
  const jobs = [...pending];
  pending = new Set();
  for (let from = 0; from < jobs.length; from += MANY) {
    const some = jobs.slice(from, from + MANY);
    try {
      liveState.history(await api.getOverview(last(), some));
    } catch (error) {
      // They are requested again when the row renders again or the stream reconnects.
      for (const job of some) requested.delete(job);
      failure.value = (error as Error).message;
    }
  }
}

/** Reloads the jobs when the next due time of one has passed. */
function reloadIfDue(): void {
  const at = now();
  const passed = liveState.rows.peek()?.some(({ job }) => {
    const { active, next } = liveState.job(job);
    const due = next.peek();
    return active.peek() && due !== null && Date.parse(due) < at;
  });
  if (passed && !document.hidden) void load();
}
