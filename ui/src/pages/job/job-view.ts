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
import * as api from "../../wire/api";
import { listen } from "../../wire/live";

const REFRESH = 5000; // milliseconds between looks at what no message of the stream tells
const SETTLES = 500; // milliseconds from an execution on schedule to the request for the ledger
/** How many of the newest entries of the ledger are shown. */
export const TICKS = 20;
const UPCOMING = 10;

export class JobView {
  readonly cell: JobCell;
  readonly description = signal<api.JobDescription | null>(null);
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
      const [described, executions] = await Promise.all([api.getJob(this.name), api.getExecutions(this.name, last())]);
      this.asked = last();
      if (JSON.stringify(described) !== JSON.stringify(this.description.peek())) this.description.value = described;
      this.cell.active.value = described.active;
      this.cell.next.value = described.next;
      this.cell.apply(executions);
      this.failure.value = "";
      this.askDueSoon();
    } catch (error) {
      const unknown = error instanceof api.RequestFailed && error.status === 404;
      if (unknown && !this.description.peek()) this.missing.value = true;
      else this.failure.value = (error as Error).message;
    }
  }

  /** Asks for the newest `count` executions, unless that was done. */
  wantHistory(count: number): void {
    if (count > this.asked && this.description.peek()) void this.load();
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
        api.getTicks(this.name, TICKS),
        api.getUpcoming(this.name, UPCOMING),
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
