/**
 * The state of the page Now.
 *
 * Rule: executions follow the stream. Reasons for waiting and due times, which it does not have, are
 * requested after changes and periodically, with a minimum pause. Old executions are dropped.
 */

import { signal } from "@preact/signals";
import { now } from "../../app/clock";
import type { Execution } from "../../model/live";
import { isFinished } from "../../model/states";
import * as api from "../../api/client";
import { listen } from "../../api/stream";

const PAUSE = 1000; // milliseconds between two requests
const REFRESH = 10_000; // milliseconds until the next request without changes
const SHOWN = 200; // milliseconds in which messages are collected before a render
const MAX_EXECUTIONS = 1000; // executions in memory
const BEFORE = 400; // executions requested from before the page was opened
/** The maximum number of due times per job. */
export const EACH = 30;

export class NowView {
  readonly now = signal<api.Now | null>(null);
  /** Changes when `executions` has. */
  readonly changed = signal(0);
  readonly failure = signal("");
  /** Executions that ended before this time (milliseconds since 1970) are unknown. */
  since = 0;
  /** Least recently updated first. */
  readonly executions = new Map<string, Execution>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private showing: ReturnType<typeof setTimeout> | undefined;
  private requested = 0;

  /** `ahead`: seconds. */
  constructor(private readonly ahead: () => number) {}

  /** Starts loading and listening; the function it returns stops it. */
  start(): () => void {
    document.title = "Now · goflow";
    const stop = listen(
      api.address("stream"),
      (execution) => this.receive(execution),
      () => {
        void this.load();
        void this.loadBefore();
      },
    );
    const timer = setInterval(() => !document.hidden && now() - this.requested > REFRESH && this.loadSoon(), 1000);
    return () => {
      stop();
      clearInterval(timer);
      clearTimeout(this.timer);
      clearTimeout(this.showing);
    };
  }

  async load(): Promise<void> {
    this.requested = now();
    try {
      const found = await api.getNow(this.ahead(), EACH);
      this.now.value = found;
      this.failure.value = "";
      for (const execution of found.executions) if (!this.executions.has(execution.id)) this.take(asExecution(execution));
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }

  private async loadBefore(): Promise<void> {
    try {
      const found = await api.getNewest(BEFORE);
      this.since = found.length < BEFORE ? 0 : Date.parse(found.at(-1)!.submitted);
      for (const execution of found.reverse()) this.take(execution);
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }

  private receive(execution: Execution): void {
    this.take(execution);
    this.loadSoon();
  }

  private loadSoon(): void {
    this.timer ??= setTimeout(() => {
      void this.load().finally(() => (this.timer = undefined));
    }, PAUSE);
  }

  private take(execution: Execution): void {
    const { executions } = this;
    const held = executions.get(execution.id);
    if (held && execution.version < held.version) return;
    executions.delete(execution.id);
    executions.set(execution.id, execution);
    for (const [id, { state }] of executions) {
      if (executions.size <= MAX_EXECUTIONS) break;
      if (isFinished(state)) executions.delete(id);
    }
    this.showing ??= setTimeout(() => {
      this.showing = undefined;
      this.changed.value++;
    }, SHOWN);
  }
}

function asExecution({ id, job, state, submitted, started, scheduled_at, cause }: api.UnfinishedExecution): Execution {
  return { id, job, state, submitted, started, scheduled_at, cause, finished: null, modifiedTimestamp: "", version: 0 };
}
