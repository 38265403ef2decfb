/** The client of the server's HTTP API. Every address is relative to the dashboard's, so any mount works. */

import { readAnswer, write } from "../model/json";
import type { Schema } from "../model/parameters";
import type * as wire from "./schema";
import type { Detail, Lines, Now, System } from "./schema";

export type {
  RetryBody,
  AbandonedView as AbandonedAttempt,
  AttemptDetail as Attempt,
  BackfilledView as Backfilled,
  CalendarDay as Day,
  Detail as ExecutionDetail,
  ExecutionNow as UnfinishedExecution,
  Artifact,
  ItemDetail,
  Lines as LogWindow,
  Now,
  PoolView as Pool,
  SharedStateView as SharedState,
  SourceView as Source,
  StateChange,
  System,
  TaskDetail,
  TaskView as TaskDescription,
  Waiting,
} from "./schema";

export type JobDescription = Omit<wire.JobView, "params_schema"> & { params_schema: Schema | null };

export type Health = wire.Health | wire.Unhealthy;

/** The tasks of a job and their dependencies. */
export type Shape = Pick<wire.JobView, "tasks" | "dag">;

/** The names of the measurements in a `Load`. */
export type Measure = Exclude<keyof wire.Load, "every" | "at">;

/** A failed request; the message is shown to the user. */
export class RequestFailed extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly errors: readonly wire.FieldError[] = [],
  ) {
    super(message);
  }
}

/** The response to a request, or `instead` if it is a 404. */
export function orElse<Value>(request: Promise<Value>, instead: Value): Promise<Value> {
  return request.catch((error: unknown) => {
    if (isMissing(error)) return instead;
    throw error;
  });
}

export const isMissing = (error: unknown): boolean => error instanceof RequestFailed && error.status === 404;

const part = encodeURIComponent;

/** The absolute URL of a path such as "api/jobs" or "stream". */
export function address(path: string): string {
  return new URL(`../${path}`, document.baseURI).href;
}

/** All jobs, or the given ones, each with its newest `last` executions. */
export const getOverview = (last: number, jobs: string[] = []) =>
  json<wire.Overview>(
    "GET",
    `api/overview?last=${last}${jobs.map((job) => `&job=${part(job)}`).join("")}`,
  ).then(({ jobs }) => jobs);

/** The health of the server, good or bad; null if it does not respond. */
export async function getHealth(): Promise<Health | null> {
  try {
    return (await (await fetch(address("api/health"), { cache: "no-store" })).json()) as Health;
  } catch {
    return null;
  }
}

export const getJob = (name: string) => exact<JobDescription>(`api/jobs/${part(name)}`);

/** The outcomes of due times, newest first, earlier than `before` if it is given. */
export const getTicks = (job: string, limit: number, before?: string) =>
  json<wire.Ticks>(
    "GET",
    `api/jobs/${part(job)}/ticks?limit=${limit}${before === undefined ? "" : `&cursor=${part(before)}`}`,
  ).then(({ ticks }) => ticks);

export const getUpcoming = (job: string, count: number) =>
  json<wire.Upcoming>("GET", `api/jobs/${part(job)}/upcoming?n=${count}`);

export const getSource = (job: string) => json<wire.SourceView>("GET", `api/jobs/${part(job)}/source`);

export const getCalendar = (job: string, timezone: string | undefined) =>
  json<wire.Calendar>(
    "GET",
    `api/jobs/${part(job)}/calendar${timezone === undefined ? "" : `?timezone=${part(timezone)}`}`,
  ).then(({ days }) => days);

/** The current state and the due times within `ahead` seconds, at most `each` per job. */
export const getNow = (ahead: number, each: number) => json<Now>("GET", `api/now?ahead=${ahead}&limit=400&each=${each}`);

/** The newest executions of all jobs, newest first. */
export const getNewest = (limit: number) =>
  json<wire.Executions>("GET", `api/executions?limit=${limit}`).then(({ executions }) => executions);

export const getSystem = (after: string | undefined) =>
  json<System>("GET", `api/system${after === undefined ? "" : `?after=${part(after)}`}`);

export const getExecutions = (job: string, limit: number) =>
  json<wire.Executions>("GET", `api/executions?jobname=${part(job)}&limit=${limit}`).then(
    ({ executions }) => executions,
  );

/** An execution in full; with `since`, only its tasks that changed after that version, if the server knows them. */
export const getExecution = (id: string, since?: number) =>
  exact<Detail>(`api/executions/${part(id)}${since === undefined ? "" : `?since=${since}`}`);

const attemptPath = (id: string, task: string, what: string) =>
  `api/executions/${part(id)}/tasks/${part(task)}/${what}`;

/** An attempt of a task, or of one item of it, in a query. */
const attemptQuery = (attempt: number, item: number | undefined) => `attempt=${attempt}${item === undefined ? "" : `&item=${item}`}`;

/** Items of a mapped task from the number `cursor` on, at most `limit`; only those in `state` and with `key` in their key, if given. */
export const getItems = (id: string, task: string, state: wire.State | null, cursor: string | null, limit: number, key = "") =>
  exact<wire.Items>(
    `${attemptPath(id, task, "items")}?limit=${limit}${state === null ? "" : `&state=${state}`}${
      cursor === null ? "" : `&cursor=${cursor}`
    }${key === "" ? "" : `&key=${encodeURIComponent(key)}`}`,
  );

/** The shared state, and a page of its changes, newest first. */
export const getState = (id: string, cursor: string | null, limit: number) =>
  exact<wire.SharedStateView>(`api/executions/${part(id)}/state?limit=${limit}${cursor === null ? "" : `&cursor=${cursor}`}`);

/** The result of an attempt, of any size. */
export const getResult = (id: string, task: string, attempt: number, item?: number) =>
  exact<unknown>(`${attemptPath(id, task, "result")}?${attemptQuery(attempt, item)}`, true);

/** The URL of that result. */
export const resultAddress = (id: string, task: string, attempt: number, item?: number) =>
  address(`${attemptPath(id, task, "result")}?${attemptQuery(attempt, item)}`);

/** The URL of an artifact of the last successful attempt, as a download. */
export const artifactAddress = (id: string, task: string, name: string, item?: number) =>
  address(`${attemptPath(id, task, `artifacts/${part(name)}`)}${item === undefined ? "" : `?item=${item}`}`);

/** `limit` lines of an attempt's log from line `after` on, counted from 0. */
export const getLines = (id: string, task: string, attempt: number, after: number, limit: number, item?: number) =>
  json<Lines>("GET", `${attemptPath(id, task, "lines")}?${attemptQuery(attempt, item)}&after=${after}&limit=${limit}`);

/** The numbers of lines that contain `text`, or look like errors if it is null, from line `after` on. */
export const findLines = (
  id: string,
  task: string,
  attempt: number,
  text: string | null,
  after: number,
  limit = 1000,
  item?: number,
) =>
  json<wire.FoundLines>(
    "GET",
    `${attemptPath(id, task, "find")}?${attemptQuery(attempt, item)}&after=${after}&limit=${limit}&${
      text === null ? "errors=true" : `text=${part(text)}`
    }`,
  );

/** The URL of the whole log as a download, optionally with the time before each line. */
export const logAddress = (id: string, task: string, attempt: number, times: boolean, item?: number) =>
  address(`${attemptPath(id, task, "logs")}?${attemptQuery(attempt, item)}&download=true${times ? "&timestamps=true" : ""}`);

export const submit = (job: string, params?: Record<string, unknown>) =>
  json<wire.Submitted>("POST", `api/jobs/${part(job)}/submit`, params && { params });

export const setActive = (job: string, active: boolean) =>
  json<wire.Toggled>("POST", `api/jobs/${part(job)}/toggle`, { active });

export const cancel = (id: string) => json<wire.Done>("POST", `api/executions/${part(id)}/cancel`);

/** Runs unsuccessful tasks again, or those from a given task on, with new parameters if given. */
export const retry = (id: string, body: wire.RetryBody = {}) =>
  json<wire.Done>("POST", `api/executions/${part(id)}/retry`, body);

/** Runs a job for the due times in [from, to) that have not run yet; with `dry_run` only lists them. */
export const backfill = (job: string, body: wire.BackfillBody) =>
  json<wire.Backfill>("POST", `api/jobs/${part(job)}/backfill`, body);

export const cancelTask = (id: string, task: string, item?: number) =>
  json<wire.Done>("POST", `api/executions/${part(id)}/tasks/${part(task)}/cancel`, item === undefined ? undefined : { item });

export const mark = (id: string, task: string, state: wire.MarkBody["state"], item?: number) =>
  json<wire.Done>("POST", `api/executions/${part(id)}/tasks/${part(task)}/mark`, item === undefined ? { state } : { state, item });

async function json<Value>(method: string, path: string, body?: unknown): Promise<Value> {
  return (await request(method, path, body)).json() as Promise<Value>;
}

/** Keys of values that users wrote, whose numbers keep all their digits. */
const USER_KEYS = new Set(["params", "params_schema", "result", "action", "state"]);

/** A response whose user-written values keep the digits of their numbers; with `whole`, all values do. */
async function exact<Value>(path: string, whole = false): Promise<Value> {
  return readAnswer(await (await request("GET", path)).text(), whole ? undefined : USER_KEYS) as Value;
}

async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const options: RequestInit = { method, cache: "no-store" };
  if (body !== undefined) {
    options.body = write(body);
    options.headers = { "content-type": "application/json" };
  }
  let response: Response;
  try {
    response = await fetch(address(path), options);
  } catch {
    throw new RequestFailed("the server cannot be reached", 0);
  }
  if (response.ok) return response;
  const error = errorOf(await response.text());
  throw new RequestFailed(error?.message ?? `the server responded with ${response.status}`, response.status, error?.errors);
}

/** The error in a body, if it has one. */
function errorOf(body: string): Partial<wire.Error> | undefined {
  try {
    return (JSON.parse(body) as { error?: Partial<wire.Error> }).error;
  } catch {
    return undefined;
  }
}
