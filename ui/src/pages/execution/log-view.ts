/**
 * The loaded part of an attempt's log: visible lines, its end, and search results.
 *
 * Rule: only visible lines are requested, with one request at a time. While the attempt runs, new
 * lines are requested every `AGAIN`.
 */

import { computed, signal } from "@preact/signals";
import { LogText } from "../../model/log";
import * as api from "../../api/client";

const AGAIN = 700; // milliseconds between requests for new lines
const LOST = 2000; // milliseconds until a failed request is repeated
const NEW = 1000; // lines per request
const FOUND = 10_000; // matches that are counted exactly

interface Hits {
  text: string;
  lines: number[];
  /** Whether the search has reached the end of the log. */
  whole: boolean;
}

const NOTHING: Hits = { text: "", lines: [], whole: true };

export class LogView {
  readonly text = new LogText();
  /** Changes with `text`; 0 until the first response. */
  readonly version = signal(0);
  readonly running = signal(false);
  readonly failure = signal("");
  readonly hits = signal<Hits>(NOTHING);
  /** "of 12", "of more than 10000", "of 3 so far". */
  readonly counted = computed(() => {
    const { lines, whole } = this.hits.value;
    if (lines.length >= FOUND) return `more than ${FOUND.toLocaleString("en")}`;
    return `${lines.length.toLocaleString("en")}${whole ? "" : " so far"}`;
  });

  private wanted: [number, number] = [0, 0];
  private requesting = false;
  private searching: Promise<void> | null = null;
  private searched = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private left = false;

  constructor(
    readonly id: string,
    readonly task: string,
    readonly attempt: number,
    /** An item of a mapped task. */
    readonly item?: number,
  ) {}

  /** Starts loading; the function it returns stops it. */
  start(): () => void {
    this.left = false;
    void this.look();
    return () => {
      this.left = true;
      clearTimeout(this.timer);
    };
  }

  /** Sets the visible rows [first, end), with a margin. */
  need(first: number, end: number): void {
    this.wanted = [first, end];
    void this.fill();
  }

  /** Searches for `text` from the beginning to the end; an empty text ends the search. */
  search(text: string): Promise<void> {
    if (text !== this.hits.peek().text) {
      this.hits.value = { text, lines: [], whole: text === "" };
      this.searched = 0;
    }
    return this.continueSearch();
  }

  /** The number of the first line that looks like an error; null if there is none. */
  async trouble(): Promise<number | null> {
    let after = 0;
    for (;;) {
      const found = await api.findLines(this.id, this.task, this.attempt, null, after, 1, this.item);
      if (found.lines.length || !found.more) return found.lines[0] ?? null;
      after = found.next;
    }
  }

  private async look(): Promise<void> {
    if (!document.hidden)
      try {
        const window = await this.lines(this.text.end, NEW);
        if (this.left) return;
        const grew = window.unfinished?.text !== this.text.unfinished?.text;
        const came = window.end > this.text.end || grew || this.version.peek() === 0;
        this.text.take(window);
        this.running.value = window.state === "running";
        this.failure.value = "";
        if (came) {
          this.version.value++;
          if (this.hits.peek().text) void this.continueSearch();
        }
      } catch (error) {
        if (this.left) return;
        this.failure.value = (error as Error).message;
        this.timer = setTimeout(() => void this.look(), LOST);
        return;
      }
    if (this.running.peek()) this.timer = setTimeout(() => void this.look(), AGAIN);
  }

  private async fill(): Promise<void> {
    if (this.requesting) return;
    this.requesting = true;
    try {
      for (let lacks; !this.left && (lacks = this.text.lacks(...this.wanted)); ) {
        const window = await this.lines(lacks.after, lacks.limit);
        this.text.take(window);
        if (window.first > lacks.after) await this.findEdge(lacks.after);
        this.failure.value = "";
        this.version.value++;
      }
    } catch (error) {
      this.failure.value = (error as Error).message;
      setTimeout(() => this.left || void this.fill(), LOST);
    } finally {
      this.requesting = false;
    }
  }

  /** Finds the first of the dropped lines around line `inside`, since a response has only later lines. */
  private async findEdge(inside: number): Promise<void> {
    let kept = -1;
    let out = inside;
    while (out - kept > 1 && !this.left) {
      const middle = Math.floor((kept + out) / 2);
      const window = await this.lines(middle, 1);
      this.text.take(window);
      if (window.first >= out) out = middle;
      else kept = window.first;
    }
  }

  private lines(after: number, limit: number): Promise<api.LogWindow> {
    return api.getLines(this.id, this.task, this.attempt, after, limit, this.item);
  }

  private continueSearch(): Promise<void> {
    return (this.searching ??= this.searchOn().finally(() => (this.searching = null)));
  }

  private async searchOn(): Promise<void> {
    try {
      for (;;) {
        const { text, lines } = this.hits.peek();
        if (this.left || !text || lines.length >= FOUND) return;
        const found = await api.findLines(this.id, this.task, this.attempt, text, this.searched, undefined, this.item);
        // Another search may have started meanwhile.
        if (this.hits.peek().text !== text) continue;
        this.searched = found.next;
        this.hits.value = { text, lines: [...lines, ...found.lines], whole: !found.more };
        if (!found.more) return;
      }
    } catch (error) {
      this.failure.value = (error as Error).message;
    }
  }
}
