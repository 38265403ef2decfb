/**
 * What the page of one job knows of it.
 *
 * Rule: what the stream tells is taken from the stream; only what it leaves out is asked
 * for: the ledger of due times when one has passed, not more often than its pause allows.
 */

import { computed, signal } from "@preact/signals";
import { now } from "../../app/clock";
import { JobCell, type Execution } from "../../model/board";
import { isFinished } from "../../model/states";
import type { Tick, Upcoming } from "../../model/ticks";
import { last } from "../../pieces/last";
import * as api from "../../api/client";
import { listen } from "../../api/stream";

const REFRESH = 5000; // milliseconds between looks at what no message of the stream tells
const SETTLES = 500; // milliseconds from an execution on schedule to the request for the ledger
/** How many of the newest entries of the ledger are shown. */
export const TICKS = 20;
const UPCOMING = 10;
const NOTHING_COMES: Upcoming = { upcoming: [], clock_changes: [] };

export class JobView {
  readonly cell: JobCell;
  readonly description = signal<api.JobDescription | null>(null);
  /** Of a job that is not defined any more, how it was at its newest execution; else null. */
  readonly removed = signal<api.Shape | null>(null);
  readonly missing = signal(false);
  readonly failure = signal("");
  /** Whether the reader is asked what to backfill. */
  readonly backfills = signal(false);

  /** The newest of what became of the due times, and the next ones; null until known. */
  readonly due = signal<{ ticks: Tick[]; next: Upcoming } | null>(null);

  /** Another text whenever one more execution has ended. */
  readonly ended = computed(() => {
    const ended = this.cell.executions.value.filter(({ state }) => isFinished(state.value));
    return ended.map(({ id }) => id).join(" ");
  });

  private asked = 0;
  private dueTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly name: string) {
    this.cell = new JobCell(name);
  }

  /** Keeps up with the server until the function it returns is called. */
  start(): () => void {
    document.title = `${this.name} · goflow`;
    const stop = listen(
      api.address(`stream?jobname=${encodeURIComponent(this.name)}`),
      (execution) => this.hear(execution),
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
      this.asked = last();
      this.cell.apply(executions);
      const removed = described ? null : await this.remains(executions);
      if (JSON.stringify(described) !== JSON.stringify(this.description.peek())) this.description.value = described;
      if (JSON.stringify(removed) !== JSON.stringify(this.removed.peek())) this.removed.value = removed;
      this.missing.value = !described && !removed;
      this.cell.active.value = described?.active ?? false;
      this.cell.next.value = described?.next ?? null;
      this.failure.value = "";
      this.askDueSoon();
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }

  /** What is left of a job that is not defined any more; null if it never was. */
  private async remains([newest]: Execution[]): Promise<api.Shape | null> {
    if (newest) {
      const { tasks, dag = {} } = await api.getExecution(newest.id);
      return { tasks: tasks.map(({ name }) => name), dag };
    }
    const ticks = await api.orElse(api.getTicks(this.name, 1), []);
    return ticks.length ? { tasks: [], dag: {} } : null;
  }

  /** Asks for the newest `count` executions, unless that was done. */
  wantHistory(count: number): void {
    if (count > this.asked && (this.description.peek() ?? this.removed.peek())) void this.load();
  }

  private hear(execution: Execution): void {
    if (execution.job !== this.name) return;
    const known = this.cell.execution(execution.id);
    this.cell.apply([execution]);
    if (!known && execution.cause === "schedule") this.askDueSoon();
  }

  /** One request for all that comes in meanwhile. */
  private askDueSoon(): void {
    this.dueTimer ??= setTimeout(() => {
      void this.askDue().finally(() => (this.dueTimer = undefined));
    }, SETTLES);
  }

  private async askDue(): Promise<void> {
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
