/**
 * What the page of one execution knows of it.
 *
 * Rule: states follow the stream; attempts, errors and results, which it leaves out, are asked
 * for when the execution has changed, and never more often than the pause allows.
 */

import { computed, signal } from "@preact/signals";
import { choose, chosen } from "../../app/router";
import { ExecutionCell, type Execution } from "../../model/board";
import { isFinished } from "../../model/states";
import * as api from "../../wire/api";
import { listen } from "../../wire/live";

const PAUSE = 300; // milliseconds between two requests for the execution in full
const REFRESH = 5000; // milliseconds between looks at what no message of the stream tells

export class ExecutionView {
  /** All that was said last; null until then. */
  readonly detail = signal<api.ExecutionDetail | null>(null);
  /** The states of its tasks, which are ahead of `detail`. */
  readonly cell = signal<ExecutionCell | null>(null);
  /** The time zone of the job, once that is known. */
  readonly timezone = signal<string | undefined>(undefined);
  readonly missing = signal(false);
  readonly failure = signal("");

  /** The names of its tasks and who waits for whom: the same value until they change. */
  readonly tasks = settled(() => this.detail.value?.tasks.map(({ name }) => name) ?? []);
  readonly dag = settled(() => this.detail.value?.dag ?? {});

  private stop: (() => void) | null = null;
  private asked = "";
  private asking = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly id: string) {}

  /** Keeps up with the server until the function it returns is called. */
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

  /** The task the reader chose. */
  task(): string | null {
    return chosen("task");
  }

  pick(task: string | null): void {
    choose({ task, attempt: null, line: null });
  }

  private async begin(): Promise<void> {
    await this.load();
    const job = this.detail.peek()?.job;
    if (job === undefined) return;
    document.title = `${job} · goflow`;
    this.stop = listen(
      api.address(`stream?jobname=${encodeURIComponent(job)}`),
      (execution) => this.hear(execution),
      () => void this.load(),
    );
    api.getJob(job).then(
      ({ timezone }) => (this.timezone.value = timezone),
      () => {}, // The job may be gone while its executions are kept.
    );
  }

  private hear(execution: Execution): void {
    if (execution.id !== this.id) return;
    this.cell.peek()?.apply(execution);
    void this.load();
  }

  private async load(): Promise<void> {
    const wanted = this.cell.peek()?.modified.peek() ?? "nothing yet";
    if (this.asking) return;
    this.asking = true;
    try {
      const detail = await api.getExecution(this.id);
      const cell = this.cell.peek();
      if (cell) cell.apply(detail);
      else this.cell.value = new ExecutionCell(detail);
      this.detail.value = detail;
      this.asked = detail.modifiedTimestamp;
      this.failure.value = "";
    } catch (error) {
      if (error instanceof api.RequestFailed && error.status === 404) this.missing.value = true;
      else this.failure.value = (error as Error).message;
      this.asked = wanted;
    }
    this.timer = setTimeout(() => {
      this.asking = false;
      // What failed is asked for again when the stream is back.
      const cell = this.cell.peek();
      if (cell && cell.modified.peek() !== this.asked) void this.load();
    }, PAUSE);
  }

  /** Why a task waits changes with what others do, of which this execution says nothing. */
  private refresh(): void {
    const detail = this.detail.peek();
    if (document.hidden || !detail || isFinished(detail.state)) return;
    if (detail.tasks.some(({ state }) => state === "notstarted")) void this.load();
  }
}

/** What `made` gives, as the same value until it differs in its JSON. */
function settled<Value>(made: () => Value) {
  let held: Value | undefined;
  let text = "";
  return computed(() => {
    const value = made();
    const now = JSON.stringify(value);
    if (held === undefined || now !== text) [held, text] = [value, now];
    return held;
  });
}
