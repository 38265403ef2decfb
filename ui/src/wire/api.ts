/** The server's HTTP API. Every address is relative to the dashboard's, so any mount works. */

import type { Execution, JobRow } from "../model/board";
import { readAnswer, write } from "../model/json";
import type { Action } from "../model/hands";
import type { Notice } from "../model/news";
import type { Schema } from "../model/parameters";
import type { State } from "../model/states";
import type { Tick, Upcoming } from "../model/ticks";

/** The tasks of a job, and which ones come after each. */
export interface Shape {
  tasks: string[];
  dag: Record<string, string[]>;
}

export interface JobDescription extends Shape {
  job: string;
  schedule: string | null;
  active: boolean;
  timezone: string;
  description: string;
  tags: string[];
  next: string | null;
  /** What each parameter is unless it is given; null if the job takes any. */
  params: Record<string, unknown> | null;
  /** The JSON Schema of the parameters; null if the job takes any. */
  params_schema?: Schema | null;
  overlap: string;
  catchup: string;
  timeout: number | null;
  task_details: TaskDescription[];
  /** Where it is defined, if that is known. */
  file?: string | null;
  line?: number | null;
}

export interface TaskDescription {
  name: string;
  operator: string;
  trigger_rule: string;
  retries: number;
  timeout: number | null;
  pool: string | null;
  priority: number;
  after: string[];
}

/** The text that defines a job; empty if it cannot be had. */
export interface Source {
  file: string | null;
  line: number | null;
  text: string;
  truncated: boolean;
}

/** What happened on one day of the calendar; days on which nothing did are left out. */
export interface Day {
  /** As "2026-11-21". */
  day: string;
  states: Partial<Record<State, number>>;
  missed: number;
  skipped: number;
  /** How long its executions took together. */
  seconds: number;
}

export interface Attempt {
  attempt: number;
  state: State;
  started: string;
  finished: string | null;
  error: string | null;
  /** When the next attempt is due, if one is. */
  retry_at: string | null;
}

export interface TaskDetail {
  name: string;
  state: State;
  started: string | null;
  finished: string | null;
  error: string | null;
  /** Null also where it is too large to be here: then `getResult` has it. */
  result: unknown;
  /** The size of the result as JSON, 0 for none. */
  result_bytes: number;
  attempts: Attempt[];
  /** Why it does not run though it could. */
  waiting: string | null;
}

export interface ExecutionDetail extends Execution {
  tasks: TaskDetail[];
  dag?: Record<string, string[]>;
  params: Record<string, unknown>;
  /** Why it failed, where that is not because of a task. */
  reason: string | null;
  /** The executions whose end it waits for before it begins. */
  after: string[];
  actions: Action[];
}

/** One attempt's lines from number `first` on, of the `end` there are so far. */
export interface LogWindow {
  attempt: number;
  state: State;
  first: number;
  end: number;
  lines: string[];
  /** When each of the lines began; null where that was not kept. */
  times: (string | null)[];
  /** The line with the number `end`, if it has begun and not ended: it may go on, or be written over. */
  unfinished: { text: string; time: string | null } | null;
  /** Half-open ranges of lines that were left out of the log, before and between these. */
  gaps: [number, number][];
  /** The number of the line to go on from. */
  next: number;
  more: boolean;
}

/** What runs, what waits and why, and what comes next. */
export interface Now {
  at: string;
  unfinished: number;
  executions: UnfinishedExecution[];
  /** What was given up and still runs. */
  abandoned: AbandonedAttempt[];
  upcoming: { job: string; due: string; overlap: string }[];
  pools: Pool[];
}

/** An attempt that was given up, though its thread cannot be stopped: it holds a slot until it ends. */
export interface AbandonedAttempt {
  execution: string;
  job: string;
  task: string;
  attempt: number;
  started: string | null;
  abandoned: string;
}

export interface UnfinishedExecution {
  id: string;
  job: string;
  state: State;
  cause: string;
  submitted: string;
  scheduled_at: string | null;
  started: string | null;
  /** Why it does not begin. */
  waiting: string | null;
  after: string[];
  counts: Partial<Record<State, number>>;
  /** Those that run, wait for a retry, or wait for room. */
  tasks: {
    name: string;
    state: State;
    started: string | null;
    retry_at: string | null;
    waiting: string | null;
    pool: string | null;
  }[];
}

export interface Pool {
  /** What it limits: all tasks, those of a job, or those that name it. */
  kind: "all" | "job" | "pool";
  name: string;
  limit: number;
  running: number;
  waiting: number;
}

/** How the server is: what it is now, and samples of the last while, oldest first. */
export interface System {
  at: string;
  started: string;
  versions: Record<string, string>;
  store: { kind: string; bytes: number };
  slots: { limit: number; running: number; waiting: number };
  pools: Pool[];
  listeners: number;
  jobs: number;
  active_jobs: number;
  unfinished: number;
  notices: Notice[];
  load: { every: number; at: string[] } & Record<Measure, number[]>;
}

export type Measure =
  | "lateness"
  | "loop_lag"
  | "commit"
  | "commits"
  | "memory"
  | "processor"
  | "running"
  | "waiting"
  | "store_bytes"
  | "listeners";

/** A request that failed; the message is for the reader of the page. */
export class RequestFailed extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** What a request gives, or `instead` if there is no such thing. */
export function orElse<Value>(asked: Promise<Value>, instead: Value): Promise<Value> {
  return asked.catch((error: unknown) => {
    if (isMissing(error)) return instead;
    throw error;
  });
}

export const isMissing = (error: unknown): boolean => error instanceof RequestFailed && error.status === 404;

const part = encodeURIComponent;

/** The address of `path` beside the dashboard: "api/jobs", "stream". */
export function address(path: string): string {
  return new URL(`../${path}`, document.baseURI).href;
}

/** All jobs, or those named, each with its newest `last` executions. */
export const getOverview = (last: number, jobs: string[] = []) =>
  json<{ jobs: JobRow[] }>(
    "GET",
    `api/overview?last=${last}${jobs.map((job) => `&job=${part(job)}`).join("")}`,
  ).then(({ jobs }) => jobs);

/** How the server is: in a word, "OK" if all is well, else `error` says it in full. */
export interface Health {
  health: string;
  error?: { message: string };
  notices?: Notice[];
}

/** That something is wrong is an answer too; null if there is none. */
export async function getHealth(): Promise<Health | null> {
  try {
    return (await (await fetch(address("api/health"), { cache: "no-store" })).json()) as Health;
  } catch {
    return null;
  }
}

export const getJob = (name: string) => exact<JobDescription>(`api/jobs/${part(name)}`);

/** What became of due times, newest first; those before `before`, if it is given. */
export const getTicks = (job: string, limit: number, before?: string) =>
  json<{ ticks: Tick[] }>(
    "GET",
    `api/jobs/${part(job)}/ticks?limit=${limit}${before === undefined ? "" : `&cursor=${part(before)}`}`,
  ).then(({ ticks }) => ticks);

export const getUpcoming = (job: string, count: number) =>
  json<Upcoming>("GET", `api/jobs/${part(job)}/upcoming?n=${count}`);

export const getSource = (job: string) => json<Source>("GET", `api/jobs/${part(job)}/source`);

export const getCalendar = (job: string, timezone: string | undefined) =>
  json<{ days: Day[] }>(
    "GET",
    `api/jobs/${part(job)}/calendar${timezone === undefined ? "" : `?timezone=${part(timezone)}`}`,
  ).then(({ days }) => days);

/** What comes within `ahead` seconds, at most `each` due times of a job. */
export const getNow = (ahead: number, each: number) => json<Now>("GET", `api/now?ahead=${ahead}&limit=400&each=${each}`);

/** The newest executions of all jobs, newest first. */
export const getNewest = (limit: number) =>
  json<{ executions: Execution[] }>("GET", `api/executions?limit=${limit}`).then(({ executions }) => executions);

export const getSystem = (after: string | undefined) =>
  json<System>("GET", `api/system${after === undefined ? "" : `?after=${part(after)}`}`);

export const getExecutions = (job: string, limit: number) =>
  json<{ executions: Execution[] }>("GET", `api/executions?jobname=${part(job)}&limit=${limit}`).then(
    ({ executions }) => executions,
  );

export const getExecution = (id: string) => exact<ExecutionDetail>(`api/executions/${part(id)}`);

const attemptPath = (id: string, task: string, what: string) =>
  `api/executions/${part(id)}/tasks/${part(task)}/${what}`;

/** The result of an attempt, however large it is. */
export const getResult = (id: string, task: string, attempt: number) =>
  exact<unknown>(`${attemptPath(id, task, "result")}?attempt=${attempt}`, true);

/** Where that is to be had as a file. */
export const resultAddress = (id: string, task: string, attempt: number) =>
  address(`${attemptPath(id, task, "result")}?attempt=${attempt}`);

/** `limit` lines of an attempt's log from line `after` on, counted from 0. */
export const getLines = (id: string, task: string, attempt: number, after: number, limit: number) =>
  json<LogWindow>("GET", `${attemptPath(id, task, "lines")}?attempt=${attempt}&after=${after}&limit=${limit}`);

/** The numbers of the lines that hold `text` (null: that tell of trouble), from line `after` on. */
export const findLines = (id: string, task: string, attempt: number, text: string | null, after: number, limit = 1000) =>
  json<{ lines: number[]; more: boolean; next: number }>(
    "GET",
    `${attemptPath(id, task, "find")}?attempt=${attempt}&after=${after}&limit=${limit}&${
      text === null ? "errors=true" : `text=${part(text)}`
    }`,
  );

/** Where the whole log is to be had as a file, with the time before each line or without. */
export const logAddress = (id: string, task: string, attempt: number, times: boolean) =>
  address(`${attemptPath(id, task, "logs")}?attempt=${attempt}&download=true${times ? "&timestamps=true" : ""}`);

export const submit = (job: string, params?: Record<string, unknown>) =>
  json<{ id: string; submitted: string }>("POST", `api/jobs/${part(job)}/submit`, params && { params });

export const setActive = (job: string, active: boolean) =>
  json<{ active: boolean }>("POST", `api/jobs/${part(job)}/toggle`, { active });

export const cancel = (id: string) => json<{ success: boolean }>("POST", `api/executions/${part(id)}/cancel`);

/** Runs again what did not succeed, or from a task on; with other parameters, if given. */
export const retry = (
  id: string,
  what: { task?: string; following?: boolean; params?: Record<string, unknown> } = {},
) => json<{ success: boolean }>("POST", `api/executions/${part(id)}/retry`, what);

export interface Backfilled {
  due: string;
  execution: string | null;
  created: boolean;
}

/** Runs a job for the due times of [from, to) that have not run; `dry_run` only tells which. */
export const backfill = (job: string, what: { from: string; to: string; parallel: number; dry_run: boolean }) =>
  json<{ executions: Backfilled[] }>("POST", `api/jobs/${part(job)}/backfill`, what);

export const cancelTask = (id: string, task: string) =>
  json<{ success: boolean }>("POST", `api/executions/${part(id)}/tasks/${part(task)}/cancel`);

export const mark = (id: string, task: string, state: "successful" | "skipped") =>
  json<{ success: boolean }>("POST", `api/executions/${part(id)}/tasks/${part(task)}/mark`, { state });

async function json<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  return (await request(method, path, body)).json() as Promise<Answer>;
}

/** Below these keys stand values that users wrote, whose numbers keep their digits. */
const USERS = new Set(["params", "params_schema", "result"]);

/** An answer of which only what users wrote keeps its digits, or all of it if it is `whole` theirs. */
async function exact<Answer>(path: string, whole = false): Promise<Answer> {
  return readAnswer(await (await request("GET", path)).text(), whole ? undefined : USERS) as Answer;
}

async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const options: RequestInit = { method, cache: "no-store" };
  if (body !== undefined) {
    options.body = write(body);
    options.headers = { "content-type": "application/json" };
  }
  let answer: Response;
  try {
    answer = await fetch(address(path), options);
  } catch {
    throw new RequestFailed("the server cannot be reached", 0);
  }
  if (answer.ok) return answer;
  throw new RequestFailed(reason(await answer.text()) ?? `the server answered ${answer.status}`, answer.status);
}

/** The message of an error body, if it has one. */
function reason(body: string): string | undefined {
  try {
    return (JSON.parse(body) as { error?: { message?: string } }).error?.message;
  } catch {
    return undefined;
  }
}
