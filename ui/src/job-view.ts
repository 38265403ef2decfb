/**
 * What the page of one job knows of it, and which execution and task its reader looks at.
 *
 * Rule: marks and nodes follow the stream; only what the stream leaves out (attempts,
 * errors, results) is asked for, for one execution, when that has changed.
 */

import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import * as api from "./api";
import { ExecutionCell, JobCell } from "./board";
import { choose, chosen, last } from "./choices";
import { listen } from "./live";

const PAUSE = 300; // milliseconds between two requests for the same execution in full
const REFRESH = 5000; // milliseconds between looks whether the next fire has passed

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

  /** A chosen execution that is older than those listed. */
  private readonly older = signal<ExecutionCell | null>(null);
  private asked = "";
  private asking = false;
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
      (execution) => execution.job === this.name && this.cell.apply([execution]),
      () => void this.load(),
    );
    effect(() => {
      void this.selected.value?.modified.value;
      void this.askDetail();
    });
    setInterval(() => this.refreshPassed(), REFRESH);
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

  private refreshPassed(): void {
    const next = this.cell.next.peek();
    if (document.hidden || !this.cell.active.peek() || next === null) return;
    if (Date.parse(next) < Date.now()) void this.load();
  }
}
