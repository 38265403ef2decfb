/**
 * Jobs and executions as signals, updated by messages of the server.
 *
 * Rule: a message changes only signals whose value differs, so that only their components render.
 * Messages may repeat, from the stream or from responses; older ones are ignored. Versions determine
 * the order, not times: clocks can be set back, and two changes may share an instant.
 */

import { batch, computed, signal, type Signal } from "@preact/signals";

import type { Bar, Cost, OverviewJob as JobRow } from "../api/schema";
import type { Counts } from "./items";
import type { State } from "./states";
import { instant } from "./time";

export type { JobRow };

/** The maximum number of executions kept per job. */
export const MAX_EXECUTIONS = 100;

/** An execution in lists and events. Short lists leave out the optional keys. */
export interface Execution {
  id: string;
  job: string;
  submitted: string;
  modifiedTimestamp: string;
  /** Grows with every change of any execution. */
  version: number;
  state: State;
  tasks?: LiveTask[];
  started?: string | null;
  finished?: string | null;
  scheduled_at?: string | null;
  cause?: string;
  cost?: Cost;
}

/** A task of such an execution. `attempts` is the number of started attempts. */
export interface LiveTask {
  name: string;
  state: State;
  attempts?: number | readonly unknown[];
  started?: string | null;
  finished?: string | null;
  /** Of a mapped task: the number of its items in each state. */
  items?: Counts;
  /** Only while it runs. */
  progress?: Bar;
}

/** An execution: its constant values, and signals for the others. */
export class LiveExecution {
  readonly id: string;
  readonly submitted: string;
  readonly order: string;
  readonly state: Signal<State>;
  /** Changes with every change of the execution. */
  readonly version: Signal<number>;
  readonly times = signal<{ started: string | null; finished: string | null }>({ started: null, finished: null });
  /** The cause of the submit; empty until it is known. */
  readonly cause = signal("");
  /** The sum of all attempts so far; null without any. */
  readonly cost = signal<Cost | null>(null);
  /** Changes with every message, also one that repeats a version with the progress of a task. */
  readonly news = signal(0);
  private readonly bars = new Map<string, Signal<Bar | null>>();
  private readonly tasks = new Map<string, Signal<State>>();
  private readonly counts = new Map<string, Signal<Counts | null>>();
  private readonly summaries = new Map<string, LiveTask>();
  /** The version of the last message with tasks: those of large executions have none. */
  private tasksVersion = 0;

  constructor(execution: Execution) {
    this.id = execution.id;
    this.submitted = execution.submitted;
    this.order = `${instant(execution.submitted)} ${execution.id}`;
    this.state = signal(execution.state);
    this.version = signal(execution.version);
    this.apply(execution);
  }

  /** The signal of a task's state; `notstarted` until it is known. */
  task(name: string): Signal<State> {
    let cell = this.tasks.get(name);
    if (!cell) this.tasks.set(name, (cell = signal<State>("notstarted")));
    return cell;
  }

  /** The signal of the counts of a mapped task's items; null for other tasks, and until they are known. */
  items(name: string): Signal<Counts | null> {
    let cell = this.counts.get(name);
    if (!cell) this.counts.set(name, (cell = signal<Counts | null>(null)));
    return cell;
  }

  /** The signal of the progress of a task; null if it does not run, or reports none. */
  progress(name: string): Signal<Bar | null> {
    let cell = this.bars.get(name);
    if (!cell) this.bars.set(name, (cell = signal<Bar | null>(null)));
    return cell;
  }

  /** The last summary of a task. */
  summary(name: string): LiveTask | undefined {
    return this.summaries.get(name);
  }

  /** Applies a message, or the part of it that is not older than the current version. */
  apply(execution: Execution): void {
    batch(() => {
      this.news.value++;
      if (execution.tasks?.length && execution.version >= this.tasksVersion) {
        this.tasksVersion = execution.version;
        for (const task of execution.tasks) {
          this.summaries.set(task.name, task);
          this.task(task.name).value = task.state;
          if (task.progress || this.bars.has(task.name)) {
            const cell = this.progress(task.name);
            const bar = task.progress ?? null;
            if (JSON.stringify(cell.peek()) !== JSON.stringify(bar)) cell.value = bar;
          }
          if (task.items || this.counts.has(task.name)) {
            const cell = this.items(task.name);
            const counts = task.items ?? null;
            if (JSON.stringify(cell.peek()) !== JSON.stringify(counts)) cell.value = counts;
          }
        }
      }
      if (execution.version < this.version.peek()) return;
      this.state.value = execution.state;
      this.version.value = execution.version;
      if (execution.cause !== undefined) this.cause.value = execution.cause;
      if (execution.cost && JSON.stringify(this.cost.peek()) !== JSON.stringify(execution.cost)) this.cost.value = execution.cost;
      const { started = null, finished = null } = execution;
      const held = this.times.peek();
      if (execution.started !== undefined && (held.started !== started || held.finished !== finished))
        this.times.value = { started, finished };
    });
  }
}

/** A job's executions, newest first, its switch and its next due time. */
export class LiveJob {
  readonly active = signal(false);
  readonly next = signal<string | null>(null);
  readonly executions = signal<LiveExecution[]>([]);
  readonly newest = computed(() => this.executions.value[0] ?? null);
  private readonly byId = new Map<string, LiveExecution>();

  constructor(readonly name: string) {}

  execution(id: string): LiveExecution | undefined {
    return this.byId.get(id);
  }

  /** Applies executions of this job, in any order; keeps the newest `MAX_EXECUTIONS`. */
  apply(executions: Execution[]): void {
    batch(() => {
      const list = this.executions.peek();
      const oldest = list.length >= MAX_EXECUTIONS ? list[list.length - 1]!.order : "";
      const added: LiveExecution[] = [];
      for (const execution of executions) {
        const held = this.byId.get(execution.id);
        if (held) held.apply(execution);
        else {
          const cell = new LiveExecution(execution);
          if (cell.order < oldest) continue;
          this.byId.set(cell.id, cell);
          added.push(cell);
        }
      }
      if (!added.length) return;
      const all = [...added, ...list].sort((a, b) => (a.order < b.order ? 1 : a.order > b.order ? -1 : 0));
      for (const dropped of all.splice(MAX_EXECUTIONS)) this.byId.delete(dropped.id);
      this.executions.value = all;
    });
  }
}

/** All jobs, in order of registration. */
export class LiveState {
  /** Changes only when jobs are added, removed or changed; null until the first overview. */
  readonly rows = signal<JobRow[] | null>(null);
  private readonly jobs = new Map<string, LiveJob>();
  private described = "";

  /** The cell of a job, created at first use. */
  job(name: string): LiveJob {
    let cell = this.jobs.get(name);
    if (!cell) this.jobs.set(name, (cell = new LiveJob(name)));
    return cell;
  }

  overview(rows: JobRow[]): void {
    batch(() => {
      for (const row of rows) {
        const cell = this.job(row.job);
        cell.active.value = row.active;
        cell.next.value = row.next;
        cell.apply(row.executions.map((execution) => ({ ...execution, job: row.job })));
      }
      const described = JSON.stringify(
        rows.map(({ executions: _, active: __, next: ___, ...described }) => described),
      );
      if (described === this.described) return;
      this.described = described;
      this.rows.value = rows;
    });
  }

  /** Older executions of some of the jobs. */
  history(rows: JobRow[]): void {
    batch(() => {
      for (const { job, executions } of rows)
        this.jobs.get(job)?.apply(executions.map((execution) => ({ ...execution, job })));
    });
  }

  /** Applies a message of the stream, unless its job is unknown. */
  apply(execution: Execution): void {
    this.jobs.get(execution.job)?.apply([execution]);
  }
}
