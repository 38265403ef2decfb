/**
 * The state of an execution's page.
 *
 * Rule: states follow the stream. Attempts, errors and results, which it does not have, are requested
 * when the execution has changed, with a minimum pause.
 */

import { computed, signal } from "@preact/signals";
import { second } from "../../app/clock";
import { choose, chosen } from "../../app/router";
import { LiveExecution, LiveJob, type Execution } from "../../model/live";
import { axisOf, barsOf, type Bar } from "../../model/gantt";
import { isFinished } from "../../model/states";
import { instant } from "../../model/time";
import * as api from "../../api/client";
import { listen } from "../../api/stream";

const PAUSE = 300; // milliseconds between two requests for the execution in full
const REFRESH = 5000; // milliseconds between polls for values that are not in the stream
const BESIDE = 100; // executions of the job in which the previous and next one are searched

export class ExecutionView {
  /** The detail last loaded; null before. */
  readonly detail = signal<api.ExecutionDetail | null>(null);
  /** The states of its tasks, which are newer than in `detail`. */
  readonly cell = signal<LiveExecution | null>(null);
  /** The newest executions of its job; null until the job is known. */
  readonly job = signal<LiveJob | null>(null);
  /** The current definition of the job; null if it is removed or not loaded yet. */
  readonly described = signal<api.JobDescription | null>(null);
  /** Whether the job is removed, so that the execution cannot be retried. */
  readonly gone = signal(false);
  readonly missing = signal(false);
  readonly failure = signal("");

  /** The tasks and their dependencies: the same value until they change. */
  readonly tasks = settled(() => this.detail.value?.tasks.map(({ name }) => name) ?? []);
  readonly dag = settled(() => this.detail.value?.dag ?? {});
  /** The hooks that have run or will; most are for another end. */
  readonly hooks = computed(() => this.detail.value?.hooks.filter(concerned) ?? []);

  /** The bars of each task. */
  readonly bars = computed(() => {
    const detail = this.detail.value;
    if (!detail) return new Map<string, Bar[]>();
    const rounds = detail.actions.filter(({ action }) => action === "retry").map(({ at }) => Date.parse(at));
    return barsOf(detail.tasks, this.dag.value, Date.parse(detail.submitted), rounds);
  });

  /** The time axis of the bars: the same value until it must be longer. */
  readonly axis = settled(() => {
    const detail = this.detail.value;
    const begun = detail ? Date.parse(detail.submitted) : 0;
    const goesOn = detail !== null && !isFinished(detail.state);
    const end = detail?.finished ? Date.parse(detail.finished) : begun;
    return axisOf(this.bars.value.values(), begun, end, goesOn ? Math.max(begun, second.value) : null);
  });

  /** The task in the URL, or else the one of most interest. */
  readonly selected = computed(() => {
    const named = chosen("task");
    const others = [...this.hooks.value, ...(this.detail.value?.dropped ?? [])];
    const known = named !== null && (this.tasks.value.includes(named) || others.some(({ name }) => name === named));
    return known ? named : this.proposed.value;
  });

  private readonly proposed = signal<string | null>(null);
  private stop: (() => void) | null = null;
  private requested = 0;
  private requesting = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly id: string) {}

  /** Starts loading and listening; the function it returns stops it. */
  start(): () => void {
    document.title = "Execution · goflow";
    let left = false;
    void this.begin().then(() => {
      if (left) this.stop?.();
    });
    const timer = setInterval(() => this.refresh(), REFRESH);
    return () => {
      left = true;
      this.stop?.();
      clearInterval(timer);
      clearTimeout(this.timer);
    };
  }

  pick(task: string): void {
    if (task !== this.selected.peek()) choose({ task, item: null, items: null, attempt: null, line: null });
  }

  /** Selects the task `by` rows further down, or the first. */
  step(by: number): void {
    const tasks = this.tasks.peek();
    const at = tasks.indexOf(this.selected.peek() ?? "");
    const next = tasks[at < 0 ? 0 : Math.max(0, Math.min(tasks.length - 1, at + by))];
    if (next !== undefined) this.pick(next);
  }

  /** The execution submitted `by` places before or after; null if it is unknown. */
  beside(by: 1 | -1): string | null {
    const all = this.job.value?.executions.value ?? [];
    const at = all.findIndex(({ id }) => id === this.id);
    return at < 0 ? null : (all[at - by]?.id ?? null);
  }

  private async begin(): Promise<void> {
    await this.load();
    const job = this.detail.peek()?.job;
    if (job === undefined) return;
    document.title = `${job} · goflow`;
    const cell = (this.job.value = new LiveJob(job));
    this.stop = listen(
      api.address(`stream?jobname=${encodeURIComponent(job)}`),
      (execution) => this.receive(execution),
      () => {
        void this.load();
        api.getExecutions(job, BESIDE).then(
          (executions) => cell.apply(executions),
          (error: Error) => (this.failure.value = error.message),
        );
        void this.describe(job);
      },
    );
  }

  /** The job may be removed, and come back after a restart of the server. */
  private async describe(job: string): Promise<void> {
    try {
      const described = await api.orElse(api.getJob(job), null);
      this.described.value = described;
      this.gone.value = described === null;
    } catch {
      // The definition is optional on this page.
    }
  }

  private receive(execution: Execution): void {
    this.job.peek()?.apply([execution]);
    if (execution.id !== this.id) return;
    this.cell.peek()?.apply(execution);
    // A message that repeats a version has the progress of tasks, unless there are too many tasks.
    if (execution.version !== this.requested || !execution.tasks?.length) void this.load();
  }

  private async load(): Promise<void> {
    const wanted = this.cell.peek()?.version.peek() ?? 0;
    if (this.requesting) return;
    this.requesting = true;
    try {
      const held = this.detail.peek();
      const answer = await api.getExecution(this.id, held?.version);
      const detail = held ? merged(held, answer) : answer;
      const cell = this.cell.peek();
      if (cell) cell.apply(answer);
      else this.cell.value = new LiveExecution(detail);
      this.propose(detail);
      this.detail.value = detail;
      this.requested = detail.version;
      this.failure.value = "";
    } catch (error) {
      if (error instanceof api.RequestFailed && error.status === 404) this.missing.value = true;
      else this.failure.value = (error as Error).message;
      this.requested = wanted;
    }
    this.timer = setTimeout(() => {
      this.requesting = false;
      // A failed request is repeated when the stream reconnects.
      const cell = this.cell.peek();
      if (cell && cell.version.peek() !== this.requested) void this.load();
    }, PAUSE);
  }

  /** The first failed task, else the first one seen running; or the only task. */
  private propose({ tasks }: api.ExecutionDetail): void {
    const held = tasks.find(({ name }) => name === this.proposed.peek());
    if (held?.state === "failed") return;
    const failed = failedIn(tasks)[0];
    const running = tasks.find(({ state }) => state === "running");
    const next = failed ?? held ?? running ?? (tasks.length === 1 ? tasks[0] : undefined);
    this.proposed.value = next?.name ?? null;
  }

  /** The reason for waiting depends on other executions, so it is polled. */
  private refresh(): void {
    const detail = this.detail.peek();
    if (document.hidden || !detail || isFinished(detail.state)) return;
    if (detail.tasks.some(({ state, waiting }) => state === "notstarted" || waiting !== null)) void this.load();
  }
}

/** The `held` detail updated with the changed tasks of a response, or the response if it is complete. */
export function merged(held: api.ExecutionDetail, answer: api.ExecutionDetail): api.ExecutionDetail {
  if (typeof answer.since !== "number") return answer;
  const changed = new Map(answer.tasks.map((task) => [task.name, task]));
  const tasks = held.tasks.map((task) => {
    const now = changed.get(task.name);
    changed.delete(task.name);
    return now ?? task;
  });
  return { ...answer, tasks: [...tasks, ...changed.values()], dag: held.dag };
}

/** Whether a hook has run, runs, or waits to run after tasks that have all ended. */
export function concerned({ state, attempts }: api.TaskDetail): boolean {
  return attempts.length > 0 || (state !== "skipped" && state !== "notstarted");
}

/** The failed tasks, in the order of their failure. */
export function failedIn(tasks: api.TaskDetail[]): api.TaskDetail[] {
  const when = ({ finished }: api.TaskDetail) => instant(finished ?? "");
  return tasks.filter(({ state }) => state === "failed").sort((a, b) => (when(a) < when(b) ? -1 : 1));
}

/** The value of `made`, which stays identical until its JSON changes. */
function settled<Value>(made: () => Value) {
  let held: Value | undefined;
  let last: Value | undefined;
  let text = "";
  return computed(() => {
    const value = made();
    if (held !== undefined && value === last) return held;
    last = value;
    const now = JSON.stringify(value);
    if (held === undefined || now !== text) [held, text] = [value, now];
    return held;
  });
}
