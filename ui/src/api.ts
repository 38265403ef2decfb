/** The server's HTTP API. Every address is relative to the dashboard's, so any mount works. */

import type { Execution, JobRow } from "./board";
import type { Action } from "./hands";
import type { Notice } from "./news";
import type { State } from "./states";
import type { Tick, Upcoming } from "./ticks";

export interface JobDescription {
  job: string;
  tasks: string[];
  dag: Record<string, string[]>;
  schedule: string | null;
  active: boolean;
  timezone: string;
  description: string;
  tags: string[];
  next: string | null;
  params: Record<string, unknown> | null;
}

export interface Attempt {
  attempt: number;
  state: State;
  started: string;
  finished: string | null;
  error: string | null;
}

export interface TaskDetail {
  name: string;
  state: State;
  started: string | null;
  finished: string | null;
  error: string | null;
  result: unknown;
  attempts: Attempt[];
  /** Why it does not run though it could. */
  waiting: string | null;
}

export interface ExecutionDetail extends Execution {
  tasks: TaskDetail[];
  dag?: Record<string, string[]>;
  /** Why it failed, where that is not because of a task. */
  reason: string | null;
  /** The executions whose end it waits for before it begins. */
  after: string[];
  actions: Action[];
}

/** A request that failed; the message is for the reader of the page. */
export class RequestFailed extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const part = encodeURIComponent;

/** The address of `path` beside the dashboard: "api/jobs", "stream". */
export function address(path: string): string {
  return new URL(`../${path}`, document.baseURI).href;
}

export const getOverview = (last: number) =>
  json<{ jobs: JobRow[] }>("GET", `api/overview?last=${last}`).then(({ jobs }) => jobs);

export const getNotices = () =>
  json<{ notices: Notice[] }>("GET", "api/health").then(({ notices }) => notices);

export const getJob = (name: string) => json<JobDescription>("GET", `api/jobs/${part(name)}`);

export const getTicks = (job: string, limit: number) =>
  json<{ ticks: Tick[] }>("GET", `api/jobs/${part(job)}/ticks?limit=${limit}`).then(({ ticks }) => ticks);

export const getUpcoming = (job: string, count: number) =>
  json<Upcoming>("GET", `api/jobs/${part(job)}/upcoming?n=${count}`);

export const getExecutions = (job: string, limit: number) =>
  json<{ executions: Execution[] }>("GET", `api/executions?jobname=${part(job)}&limit=${limit}`).then(
    ({ executions }) => executions,
  );

export const getExecution = (id: string) => json<ExecutionDetail>("GET", `api/executions/${part(id)}`);

export const getLog = (id: string, task: string, attempt: number) =>
  request("GET", `api/executions/${part(id)}/tasks/${part(task)}/logs?attempt=${attempt}`).then((answer) =>
    answer.text(),
  );

export const submit = (job: string, params?: Record<string, unknown>) =>
  json<{ id: string; submitted: string }>("POST", `api/jobs/${part(job)}/submit`, params && { params });

export const setActive = (job: string, active: boolean) =>
  json<{ active: boolean }>("POST", `api/jobs/${part(job)}/toggle`, { active });

export const cancel = (id: string) => json<{ success: boolean }>("POST", `api/executions/${part(id)}/cancel`);

export const retry = (id: string) => json<{ success: boolean }>("POST", `api/executions/${part(id)}/retry`);

export const retryTask = (id: string, task: string, following: boolean) =>
  json<{ success: boolean }>("POST", `api/executions/${part(id)}/retry`, { task, following });

export const cancelTask = (id: string, task: string) =>
  json<{ success: boolean }>("POST", `api/executions/${part(id)}/tasks/${part(task)}/cancel`);

export const mark = (id: string, task: string, state: "successful" | "skipped") =>
  json<{ success: boolean }>("POST", `api/executions/${part(id)}/tasks/${part(task)}/mark`, { state });

async function json<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  return (await request(method, path, body)).json() as Promise<Answer>;
}

async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const options: RequestInit = { method, cache: "no-store" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
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
