/**
 * The state of a job's page.
 *
 * Rule: executions follow the stream. Due times, which it does not have, are requested when one has
 * passed, with a minimum pause.
 */

import { computed, signal } from "@preact/signals";
import { now } from "../../app/clock";
import { LiveJob, type Execution } from "../../model/live";
import { isFinished } from "../../model/states";
import type { Tick, Upcoming } from "../../model/ticks";
import { last } from "../../components/last";
import * as api from "../../api/client";
import { listen } from "../../api/stream";

const REFRESH = 5000; // milliseconds between polls for values that are not in the stream
const SETTLES = 500; // milliseconds from a scheduled execution to the request for the ledger
/** The number of ledger entries shown at first. */
export const TICKS = 20;
const UPCOMING = 10;
const NOTHING_COMES: Upcoming = { upcoming: [], clock_changes: [], skipped: [] };

export class JobView {
  readonly cell: LiveJob;
  readonly description = signal<api.JobDescription | null>(null);
  /** The tasks of a removed job, as of its newest execution; else null. */
  readonly removed = signal<api.Shape | null>(null);
  readonly missing = signal(false);
  readonly failure = signal("");
  /** Whether the backfill dialog is open. */
  readonly backfills = signal(false);

  /** The newest past due times and the next ones; null until loaded. */
  readonly due = signal<{ ticks: Tick[]; next: Upcoming } | null>(null);

  /** Changes when an execution ends. */
  readonly ended = computed(() => {
    const ended = this.cell.executions.value.filter(({ state }) => isFinished(state.value));
    return ended.map(({ id }) => id).join(" ");
  });

  private requested = 0;
  private dueTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly name: string) {
    this.cell = new LiveJob(name);
  }

  /** Starts loading and listening; the function it returns stops it. */
  start(): () => void {
    document.title = `${this.name} · goflow`;
    const stop = listen(
      api.address(`stream?jobname=${encodeURIComponent(this.name)}`),
      (execution) => this.receive(execution),
      () => void this.load(),
    );
    const timer = setInterval(() => this.refresh(), REFRESH);
    return () => {
      stop();
      clearInterval(timer);
      clearTimeout(this.dueTimer);
    };
  }

  async load(): Promise<void> {
    try {
      const [described, executions] = await Promise.all([
        api.orElse(api.getJob(this.name), null),
        api.getExecutions(this.name, last()),
      ]);
      this.requested = last();
      this.cell.apply(executions);
      const removed = described ? null : await this.remains(executions);
      if (JSON.stringify(described) !== JSON.stringify(this.description.peek())) this.description.value = described;
      if (JSON.stringify(removed) !== JSON.stringify(this.removed.peek())) this.removed.value = removed;
      this.missing.value = !described && !removed;
      this.cell.active.value = described?.active ?? false;
      this.cell.next.value = described?.next ?? null;
      this.failure.value = "";
      this.loadDueSoon();
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }

  /** The tasks of a removed job; null if there are no executions of it. */
  private async remains([newest]: Execution[]): Promise<api.Shape | null> {
    if (newest) {
      const { tasks, dag = {} } = await api.getExecution(newest.id);
      return { tasks: tasks.map(({ name }) => name), dag };
    }
    const ticks = await api.orElse(api.getTicks(this.name, 1), []);
    return ticks.length ? { tasks: [], dag: {} } : null;
  }

  /** Loads the newest `count` executions, once. */
  requestHistory(count: number): void {
    if (count > this.requested && (this.description.peek() ?? this.removed.peek())) void this.load();
  }

  private receive(execution: Execution): void {
    if (execution.job !== this.name) return;
    const known = this.cell.execution(execution.id);
    this.cell.apply([execution]);
    if (!known && execution.cause === "schedule") this.loadDueSoon();
  }

  /** At most one request at a time; it covers all changes in the meantime. */
  private loadDueSoon(): void {
    this.dueTimer ??= setTimeout(() => {
      void this.loadDue().finally(() => (this.dueTimer = undefined));
    }, SETTLES);
  }

  private async loadDue(): Promise<void> {
    try {
      const [ticks, next] = await Promise.all([
        api.orElse(api.getTicks(this.name, TICKS), []),
        this.removed.peek() ? NOTHING_COMES : api.orElse(api.getUpcoming(this.name, UPCOMING), NOTHING_COMES),
      ]);
      const due = { ticks, next };
      if (JSON.stringify(due) !== JSON.stringify(this.due.peek())) this.due.value = due;
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }

  private refresh(): void {
    if (document.hidden) return;
    const next = this.cell.next.peek();
    if (this.cell.active.peek() && next !== null && Date.parse(next) < now()) void this.load();
  }
}
