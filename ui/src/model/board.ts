/**
 * What is known of jobs and executions: a fold of what the server says into signals.
 *
 * Rule: a message changes only the cells whose value it changes, so that only what shows
 * those cells is drawn again. The same message may come any number of times, by the stream or as
 * an answer; one older than what is held is ignored. Versions tell which is older, never times: a
 * clock is set back, and two changes may share an instant.
 */

import { batch, computed, signal, type Signal } from "@preact/signals";

import type { OverviewJob as JobRow } from "../api/schema";
import type { State } from "./states";
import { instant } from "./time";

export type { JobRow };

/** The most executions of a job that are held. */
export const MOST = 100;

/** An execution as the server sends it. Lists in brief leave out what has a question mark. */
export interface Execution {
  id: string;
  job: string;
  submitted: string;
  modifiedTimestamp: string;
  /** Grows with every change of any execution. */
  version: number;
  state: State;
  tasks?: TaskInBrief[];
  started?: string | null;
  finished?: string | null;
  scheduled_at?: string | null;
  cause?: string;
}

/** A task as executions list it; `attempts` counts those begun. */
export interface TaskInBrief {
  name: string;
  state: State;
  attempts?: number | readonly unknown[];
  started?: string | null;
  finished?: string | null;
}

/** One execution: what never changes of it, and a cell for all that does. */
export class ExecutionCell {
  readonly id: string;
  readonly submitted: string;
  readonly order: string;
  readonly state: Signal<State>;
  /** Changes with every change of the execution. */
  readonly version: Signal<number>;
  readonly times = signal<{ started: string | null; finished: string | null }>({ started: null, finished: null });
  /** Why it was submitted: an empty text until the server has said. */
  readonly cause = signal("");
  private readonly tasks = new Map<string, Signal<State>>();
  private readonly told = new Map<string, TaskInBrief>();

  constructor(execution: Execution) {
    this.id = execution.id;
    this.submitted = execution.submitted;
    this.order = `${instant(execution.submitted)} ${execution.id}`;
    this.state = signal(execution.state);
    this.version = signal(execution.version);
    this.apply(execution);
  }

  /** The cell of a task's state; `notstarted` until the server has said something. */
  task(name: string): Signal<State> {
    let cell = this.tasks.get(name);
    if (!cell) this.tasks.set(name, (cell = signal<State>("notstarted")));
    return cell;
  }

  /** What else was last said of a task; it changes only when its state does. */
  brief(name: string): TaskInBrief | undefined {
    return this.told.get(name);
  }

  /** Takes note of a message, unless it is older than what is held. */
  apply(execution: Execution): void {
    if (execution.version < this.version.peek()) return;
    batch(() => {
      this.state.value = execution.state;
      this.version.value = execution.version;
      if (execution.cause !== undefined) this.cause.value = execution.cause;
      const { started = null, finished = null } = execution;
      const held = this.times.peek();
      if (execution.started !== undefined && (held.started !== started || held.finished !== finished))
        this.times.value = { started, finished };
      for (const task of execution.tasks ?? []) {
        this.told.set(task.name, task);
        this.task(task.name).value = task.state;
      }
    });
  }
}

/** One job's executions, newest first, and its switch and next fire. */
export class JobCell {
  readonly active = signal(false);
  readonly next = signal<string | null>(null);
  readonly executions = signal<ExecutionCell[]>([]);
  readonly newest = computed(() => this.executions.value[0] ?? null);
  private readonly byId = new Map<string, ExecutionCell>();

  constructor(readonly name: string) {}

  execution(id: string): ExecutionCell | undefined {
    return this.byId.get(id);
  }

  /** Takes note of executions of this job, in any order; keeps the newest `MOST`. */
  apply(executions: Execution[]): void {
    batch(() => {
      const list = this.executions.peek();
      const oldest = list.length >= MOST ? list[list.length - 1]!.order : "";
      const added: ExecutionCell[] = [];
      for (const execution of executions) {
        const held = this.byId.get(execution.id);
        if (held) held.apply(execution);
        else {
          const cell = new ExecutionCell(execution);
          if (cell.order < oldest) continue;
          this.byId.set(cell.id, cell);
          added.push(cell);
        }
      }
      if (!added.length) return;
      const all = [...added, ...list].sort((a, b) => (a.order < b.order ? 1 : a.order > b.order ? -1 : 0));
      for (const dropped of all.splice(MOST)) this.byId.delete(dropped.id);
      this.executions.value = all;
    });
  }
}

/** All jobs, in the order registered. */
export class Board {
  /** Changes only when jobs come, go or are described anew; null until the first overview. */
  readonly rows = signal<JobRow[] | null>(null);
  private readonly jobs = new Map<string, JobCell>();
  private described = "";

  /** The cell of a job, made when first asked for. */
  job(name: string): JobCell {
    let cell = this.jobs.get(name);
    if (!cell) this.jobs.set(name, (cell = new JobCell(name)));
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

  /** One message of the stream. One about a job that is not on the board is ignored. */
  apply(execution: Execution): void {
    this.jobs.get(execution.job)?.apply([execution]);
  }
}
