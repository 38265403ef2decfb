/**
 * The loaded items of a mapped task: the visible rows of the list, and the selected item.
 *
 * Rule: only visible rows are requested, with one request at a time. After a change they are requested
 * again, with a pause of at least `PAUSE`.
 */

import { signal } from "@preact/signals";
import { ItemRows } from "../../model/items";
import type { State } from "../../model/states";
import * as api from "../../api/client";

const PAUSE = 1500; // milliseconds between two refreshes
const LOST = 2000; // milliseconds until a failed request is repeated
const PAGE = 100; // items per request, at least
const MAX_PAGE = 1000; // items per request, as the server allows

export class ItemsView {
  readonly rows = new ItemRows();
  /** Changes with `rows`. */
  readonly version = signal(0);
  /** The number of rows of a filtered list, as far as loaded. */
  readonly found = signal(0);
  /** Whether a filtered list is loaded to its end. */
  readonly whole = signal(false);
  /** Whether items have keys. */
  readonly keyed = signal(false);
  /** The selected item; null until it is loaded. */
  readonly item = signal<api.ItemDetail | null>(null);
  readonly failure = signal("");

  private wanted: [number, number] = [0, 0];
  private selected: number | null = null;
  private next: string | null = null;
  private outdated = true; // the filtered list
  private itemOutdated = true;
  private loading = false;
  private asked = false; // to load, since the last look at what is missing began
  private pausing = false;
  private changed = false;
  private begun = false;
  private left = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private repeat: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    readonly task: string,
    /** Only items in this state, if not null. */
    readonly state: State | null,
    /** Only items whose key contains it, if not empty. */
    readonly part = "",
  ) {}

  /** Whether some rows are left out. */
  get filtered(): boolean {
    return this.state !== null || this.part !== "";
  }

  /** Starts loading; the function it returns stops it. */
  start(): () => void {
    this.left = false;
    return () => {
      this.left = true;
      clearTimeout(this.timer);
      clearTimeout(this.repeat);
      this.pausing = false;
    };
  }

  /** Sets the visible rows [first, end). */
  need(first: number, end: number): void {
    this.wanted = [first, end];
    void this.load();
  }

  /** Selects an item, or none. */
  select(index: number | null): void {
    if (index === this.selected) return;
    this.selected = index;
    this.item.value = null;
    this.itemOutdated = true;
    void this.load();
  }

  /** Called with the first state of the task, and whenever it has changed. */
  outdate(): void {
    if (!this.begun) {
      this.begun = true;
      return;
    }
    this.changed = true;
    if (this.pausing) return;
    this.refresh();
  }

  private refresh(): void {
    this.changed = false;
    this.pausing = true;
    this.rows.outdate();
    this.outdated = true;
    this.itemOutdated = true;
    void this.load().then(() => {
      if (this.left) return;
      this.timer = setTimeout(() => {
        this.pausing = false;
        if (this.changed) this.refresh();
      }, PAUSE);
    });
  }

  private async load(): Promise<void> {
    this.asked = true;
    if (this.loading) return;
    this.loading = true;
    try {
      while (this.asked && !this.left) {
        this.asked = false;
        while (!this.left && (await this.loadSome()));
      }
      this.failure.value = "";
    } catch (error) {
      this.failure.value = (error as Error).message;
      [this.outdated, this.itemOutdated] = [true, true];
      clearTimeout(this.repeat);
      if (!this.left) this.repeat = setTimeout(() => void this.load(), LOST);
    } finally {
      this.loading = false;
    }
  }

  /** Makes one step; false if nothing is missing. */
  private async loadSome(): Promise<boolean> {
    const { selected } = this;
    if (selected !== null && this.itemOutdated) {
      this.itemOutdated = false;
      const { items } = await api.getItems(this.id, this.task, null, String(selected), 1);
      if (selected === this.selected) this.item.value = items[0] ?? null;
      return true;
    }
    return this.filtered ? this.loadFiltered() : this.loadRows();
  }

  /** Of all items, the cursor is the number of an item. */
  private async loadRows(): Promise<boolean> {
    const [first, end] = this.wanted;
    const from = this.rows.lacks(first, end);
    if (from === null) return false;
    const { age } = this.rows;
    const { items } = await api.getItems(this.id, this.task, null, String(from), Math.min(MAX_PAGE, Math.max(PAGE, end - from)));
    this.rows.take(from, items, age);
    if (items.some(({ key }) => key !== null)) this.keyed.value = true;
    this.version.value++;
    return items.length > 0;
  }

  /** The rows of a filtered list are known only from its beginning on. */
  private async loadFiltered(): Promise<boolean> {
    const end = Math.max(1, this.wanted[1]);
    let cursor = this.next;
    let held = this.found.peek();
    if (this.outdated) [cursor, held] = [null, 0];
    else if (this.whole.peek() || held >= end) return false;
    this.outdated = false;
    do {
      const page = await api.getItems(this.id, this.task, this.state, cursor, Math.min(MAX_PAGE, Math.max(PAGE, end - held)), this.part);
      if (this.left) return false;
      this.rows.take(held, page.items);
      if (page.items.some(({ key }) => key !== null)) this.keyed.value = true;
      held += page.items.length;
      cursor = page.next;
    } while (cursor !== null && held < end);
    this.rows.cut(held);
    this.next = cursor;
    this.found.value = held;
    this.whole.value = cursor === null;
    this.version.value++;
    return true;
  }
}
