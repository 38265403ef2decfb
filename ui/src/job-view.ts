/**
 * What the page of one job knows of it, and which execution and task its reader looks at.
 *
 * Rule: marks and nodes follow the stream; only what the stream leaves out is asked for:
 * attempts, errors and results of one execution when that has changed, and the ledger of
 * due times when one has passed, neither more often than its pause allows.
 */

import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import * as api from "./api";
import { ExecutionCell, JobCell, type Execution } from "./board";
import { choose, chosen, last } from "./choices";
import { listen } from "./live";
import { isFinished } from "./states";
import type { Tick, Upcoming } from "./ticks";

const PAUSE = 300; // milliseconds between two requests for the same execution in full
const REFRESH = 5000; // milliseconds between looks at what no message of the stream tells
const SETTLES = 500; // milliseconds from an execution on schedule to the request for the ledger
/** How many of the newest entries of the ledger are shown. */
export const TICKS = 20;
const UPCOMING = 3;

export class JobView {
  readonly cell: JobCell;
  readonly description = signal<api.JobDescription | null>(null);
  readonly missing = signal(false);
  readonly failure = signal("");

  /** The execution the reader chose; null follows the newest. */
  readonly pinned = signal(chosen("execution"));
  /** The task the reader chose. */
  readonly task = signal(chosen("task"));
  readonly selected: ReadonlySignal<ExecutionCell | null>;
  /** The selected execution in full; may be of the one selected before for a moment. */
  readonly detail = signal<api.ExecutionDetail | null>(null);

  /** The newest of what became of the due times, and the next ones; null until known. */
  readonly due = signal<{ ticks: Tick[]; next: Upcoming } | null>(null);

  /** A chosen execution that is older than those listed. */
  private readonly older = signal<ExecutionCell | null>(null);
  private asked = "";
  private asking = false;
  private dueTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly picks = new Map<string, ReadonlySignal<boolean>>();

  constructor(readonly name: string) {
    this.cell = new JobCell(name);
    this.selected = computed(() => {
      const [newest] = this.cell.executions.value;
      const pinned = this.pinned.value;
      if (pinned === null) return newest ?? null;
      return this.cell.execution(pinned) ?? (this.older.value?.id === pinned ? this.older.value : null);
    });
  }

  start(): void {
    document.title = `${this.name} · goflow`;
    listen(
      api.address(`stream?jobname=${encodeURIComponent(this.name)}`),
      (execution) => this.hear(execution),
      () => void this.load(),
    );
    effect(() => {
      void this.selected.value?.modified.value;
      void this.askDetail();
    });
    setInterval(() => this.refresh(), REFRESH);
  }

  async load(): Promise<void> {
    try {
      const [described, executions] = await Promise.all([
        api.getJob(this.name),
        api.getExecutions(this.name, last.value),
      ]);
      if (JSON.stringify(described) !== JSON.stringify(this.description.peek())) this.description.value = described;
      this.cell.active.value = described.active;
      this.cell.next.value = described.next;
      this.cell.apply(executions);
      const pinned = this.pinned.peek();
      if (pinned !== null && !this.selected.peek())
        this.older.value = new ExecutionCell(await api.getExecution(pinned));
      this.failure.value = "";
      void this.askDetail();
      this.askDueSoon();
    } catch (error) {
      const unknown = error instanceof api.RequestFailed && error.status === 404;
      if (unknown && !this.description.peek()) this.missing.value = true;
      else this.failure.value = (error as Error).message;
    }
  }

  pickExecution(id: string | null): void {
    this.pinned.value = id;
    choose("execution", id);
  }

  pickTask(name: string | null): void {
    this.task.value = name;
    choose("task", name);
  }

  /** Whether an execution is the selected one, as a cell: a new choice redraws two columns. */
  isPicked(id: string): ReadonlySignal<boolean> {
    let cell = this.picks.get(id);
    if (!cell) this.picks.set(id, (cell = computed(() => this.selected.value?.id === id)));
    return cell;
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

  private async askDetail(): Promise<void> {
    const cell = this.selected.peek();
    if (this.asking || !cell) return;
    const wanted = `${cell.id} ${cell.modified.peek()}`;
    if (wanted === this.asked) return;
    this.asking = true;
    try {
      const detail = await api.getExecution(cell.id);
      cell.apply(detail);
      this.detail.value = detail;
      this.asked = wanted;
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
    setTimeout(() => {
      this.asking = false;
      // What failed is asked for again when the stream is back.
      if (this.asked === wanted) void this.askDetail();
    }, PAUSE);
  }

  private refresh(): void {
    if (document.hidden) return;
    const next = this.cell.next.peek();
    if (this.cell.active.peek() && next !== null && Date.parse(next) < Date.now()) void this.load();
    // Why a task waits changes with what others do, of which this execution says nothing.
    const selected = this.selected.peek();
    const waits = !!selected && !isFinished(selected.state.peek());
    if (waits && !this.asking && this.detail.peek()?.tasks.some(({ state }) => state === "notstarted")) {
      this.asked = "";
      void this.askDetail();
    }
  }
}
