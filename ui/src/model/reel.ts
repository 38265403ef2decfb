/**
 * Where a reader is in a list of rows of which only those in sight are drawn. Pure.
 *
 * The browser scrolls an element of `length` pixels. While every row is `LINE` high and all fit
 * into what a browser can hold, a pixel there is a pixel here. Otherwise (rows are wrapped and
 * differ, or there are too many) short ways are pixels of rows, and a long way, as with the bar,
 * is a share of the whole; `position` says where the bar belongs.
 */

/** The height of a row that is not wrapped, in pixels. */
export const LINE = 20;

/** Browsers hold no higher element than about 17 million pixels. */
export const HIGHEST = 10_000_000;

const REMEMBERED = 20_000; // heights of rows
const BEFORE = 4; // rows above one that is gone to
const FEW = 1000; // rows whose heights are added up, where they differ

export interface Window {
  /** The rows to draw, half-open. */
  first: number;
  end: number;
  /** Where the first of them stands in the element, in pixels. */
  offset: number;
}

export class Reel {
  /** The row at the upper edge, and how many pixels of it are above the edge. */
  top = 0;
  within = 0;
  /** How high the part is that is seen, in pixels. */
  room = 0;
  private rows = 0;
  /** Where the browser has scrolled to, in pixels. */
  native = 0;
  private measured: Map<number, number> | null = null;

  get count(): number {
    return this.rows;
  }

  /** There are `count` rows now. */
  resize(count: number): void {
    this.rows = count;
    this.settle();
  }

  /** Whether rows may differ in height; what was measured is forgotten. */
  wrap(wraps: boolean): void {
    this.measured = wraps ? new Map() : null;
    this.within = Math.min(this.within, LINE - 1);
  }

  /** A row was drawn and is so high. */
  measure(row: number, height: number): void {
    if (!this.measured) return;
    if (this.measured.size >= REMEMBERED) this.measured.clear();
    this.measured.set(row, height);
  }

  height(row: number): number {
    return this.measured?.get(row) ?? LINE;
  }

  /** How high the element that the browser scrolls is. */
  get length(): number {
    if (this.measured === null || this.rows > FEW) return Math.min(this.rows * LINE, HIGHEST);
    let sum = 0;
    for (let row = 0; row < this.rows; row++) sum += this.height(row);
    return sum;
  }

  get exact(): boolean {
    return this.measured === null && this.rows * LINE <= HIGHEST;
  }

  get atStart(): boolean {
    return this.top === 0 && this.within < 1;
  }

  get atEnd(): boolean {
    const { top, within } = this.last();
    return this.top > top || (this.top === top && this.within >= within - 2);
  }

  /** Where the browser should have scrolled to, in pixels. */
  get position(): number {
    if (this.exact) return this.top * LINE + this.within;
    const last = this.last();
    const end = last.top + last.within / this.height(last.top);
    const here = this.top + this.within / this.height(this.top);
    return Math.round(end > 0 ? (Math.min(here, end) / end) * this.most : 0);
  }

  /** The browser has scrolled, or was told to: `length` pixels hide that many above the edge. */
  scrolled(native: number): void {
    const by = native - this.native;
    this.native = native;
    if (this.exact) {
      this.top = Math.floor(native / LINE);
      this.within = native - this.top * LINE;
    } else if (Math.abs(by) <= 2 * this.room) {
      this.move(by);
      // The bar stands for so much that its last pixel may be all that is left to go.
      if (native >= this.most - 1 && this.position >= this.most - 2) this.goToEnd();
      if (native <= 1 && this.position <= 2) [this.top, this.within] = [0, 0];
    } else {
      const last = this.last();
      const here = (native / Math.max(1, this.most)) * (last.top + last.within / this.height(last.top));
      this.top = Math.floor(here);
      this.within = Math.floor((here - this.top) * this.height(this.top));
    }
    this.settle();
  }

  /** The bar was put where it belongs: no way that a reader went. */
  placed(native: number): void {
    this.native = native;
  }

  /** Whether the bar has come to where the reader could not go on though there is more, or less. */
  get strays(): boolean {
    if (this.exact) return this.native !== this.position;
    const [low, high] = [this.native <= 1, this.native >= this.most - 1];
    return low !== this.atStart || high !== this.atEnd;
  }

  /** Puts a row below the upper edge, with some of those before it above it. */
  go(row: number): void {
    this.top = Math.max(0, Math.min(this.rows - 1, row));
    this.within = 0;
    this.move(-Math.min(BEFORE * LINE, (this.room - LINE) / 2));
    this.settle();
  }

  goToEnd(): void {
    Object.assign(this, this.last());
  }

  /** Moves by pixels of rows. */
  move(by: number): void {
    let within = this.within + by;
    if (this.measured === null) {
      const steps = Math.floor(within / LINE);
      this.top += steps;
      this.within = within - steps * LINE;
      if (this.top < 0) [this.top, this.within] = [0, 0];
      return;
    }
    while (within < 0 && this.top > 0) within += this.height(--this.top);
    while (this.top < this.rows - 1 && within >= this.height(this.top)) within -= this.height(this.top++);
    this.within = Math.max(0, within);
  }

  /** The rows in sight and those up to `over` pixels beyond. */
  window(over: number): Window {
    let first = this.top;
    let above = this.within;
    while (first > 0 && above < over + this.within) above += this.height(--first);
    let end = this.top;
    let below = -this.within;
    while (end < this.rows && below < this.room + over) below += this.height(end++);
    return { first, end, offset: (this.exact ? this.top * LINE + this.within : this.native) - above };
  }

  private get most(): number {
    return Math.max(0, this.length - this.room);
  }

  /** The place at which the last row stands at the lower edge. */
  private last(): { top: number; within: number } {
    let top = this.rows;
    let left = this.room;
    if (this.measured === null) {
      const pixels = Math.max(0, this.rows * LINE - this.room);
      return { top: Math.floor(pixels / LINE), within: pixels % LINE };
    }
    while (top > 0 && left > 0) left -= this.height(--top);
    return { top, within: Math.max(0, -left) };
  }

  private settle(): void {
    if (this.atEnd) this.goToEnd();
    if (this.top < 0) [this.top, this.within] = [0, 0];
  }
}
