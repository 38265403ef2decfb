/**
 * What the page knows of what goes on.
 *
 * Rule: executions follow the stream; what it leaves out, why something waits and what comes
 * next, is asked for when something has changed and now and then, never more often than the
 * pause allows. What ended long ago is forgotten.
 */

import { signal } from "@preact/signals";
import { now } from "../../app/clock";
import type { Execution } from "../../model/board";
import { isFinished } from "../../model/states";
import * as api from "../../wire/api";
import { listen } from "../../wire/live";

const PAUSE = 1000; // milliseconds between two requests
const REFRESH = 10_000; // milliseconds after which it is asked for in any case
const MOST = 1000; // executions held

export class NowView {
  readonly now = signal<api.Now | null>(null);
  readonly executions = signal<ReadonlyMap<string, Execution>>(new Map());
  readonly failure = signal("");
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asked = 0;

  /** `ahead`: seconds. */
  constructor(private readonly ahead: () => number) {}

  /** Keeps up with the server until the function it returns is called. */
  start(): () => void {
    document.title = "Now · goflow";
    const stop = listen(
      api.address("stream"),
      (execution) => this.hear(execution),
      () => void this.load(),
    );
    const timer = setInterval(() => !document.hidden && now() - this.asked > REFRESH && this.loadSoon(), 1000);
    return () => {
      stop();
      clearInterval(timer);
      clearTimeout(this.timer);
    };
  }

  async load(): Promise<void> {
    this.asked = now();
    try {
      const found = await api.getNow(this.ahead());
      this.now.value = found;
      this.failure.value = "";
      this.take(found.executions.map(asExecution));
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }

  private hear(execution: Execution): void {
    this.take([execution]);
    this.loadSoon();
  }

  private loadSoon(): void {
    this.timer ??= setTimeout(() => {
      void this.load().finally(() => (this.timer = undefined));
    }, PAUSE);
  }

  private take(found: Execution[]): void {
    const all = new Map(this.executions.peek());
    for (const execution of found) {
      const held = all.get(execution.id);
      if (held && execution.modifiedTimestamp < held.modifiedTimestamp) continue;
      all.delete(execution.id);
      all.set(execution.id, execution);
    }
    // What was heard of longest ago stands first.
    for (const [id, { state }] of all) {
      if (all.size <= MOST) break;
      if (isFinished(state)) all.delete(id);
    }
    this.executions.value = all;
  }
}

function asExecution({ id, job, state, submitted, started, scheduled_at, cause }: api.UnfinishedExecution): Execution {
  return { id, job, state, submitted, started, scheduled_at, cause, finished: null, modifiedTimestamp: "" };
}
