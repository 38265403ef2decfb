/**
 * The scroll position in a virtual list, of which only visible rows render. Pure.
 *
 * The browser scrolls an element of `length` pixels. If all rows have the height `LINE` and their sum
 * is below the browser's limit, positions are equal. Otherwise (wrapped rows, or too many of them)
 * short scrolls count in pixels of rows, and long ones, as by the scroll bar, as a share of the
 * whole. `position` is the scroll position that the browser should have.
 */

/** The height of an unwrapped row in pixels. */
export const LINE = 20;

/** Browsers limit the height of an element to about 17 million pixels. */
export const MAX_HEIGHT = 10_000_000;

const REMEMBERED = 20_000; // heights of rows
const BEFORE = 4; // rows shown above a row that is jumped to
const FEW = 1000; // rows whose heights are summed exactly if they differ

export interface Window {
  /** The rows to render, half-open. */
  first: number;
  end: number;
  /** The position of the first one in the element, in pixels. */
  offset: number;
}

export class VirtualScroll {
  /** The row at the top edge, and its pixels above the edge. */
  top = 0;
  within = 0;
  /** The height of the visible part in pixels. */
  room = 0;
  private rows = 0;
  /** The scroll position of the browser in pixels. */
  native = 0;
  private measured: Map<number, number> | null = null;

  get count(): number {
    return this.rows;
  }

  /** Sets the number of rows. */
  resize(count: number): void {
    this.rows = count;
    this.settle();
  }

  /** Sets whether rows wrap, and forgets measured heights. */
  wrap(wraps: boolean): void {
    this.measured = wraps ? new Map() : null;
    this.within = Math.min(this.within, LINE - 1);
  }

  /** Records the height of a rendered row. */
  measure(row: number, height: number): void {
    if (!this.measured) return;
    if (this.measured.size >= REMEMBERED) this.measured.clear();
    this.measured.set(row, height);
  }

  height(row: number): number {
    return this.measured?.get(row) ?? LINE;
  }

  /** The height of the scrolled element. */
  get length(): number {
    if (this.measured === null || this.rows > FEW) return Math.min(this.rows * LINE, MAX_HEIGHT);
    let sum = 0;
    for (let row = 0; row < this.rows; row++) sum += this.height(row);
    return sum;
  }

  get exact(): boolean {
    return this.measured === null && this.rows * LINE <= MAX_HEIGHT;
  }

  get atStart(): boolean {
    return this.top === 0 && this.within < 1;
  }

  get atEnd(): boolean {
    const { top, within } = this.last();
    return this.top > top || (this.top === top && this.within >= within - 2);
  }

  /** The scroll position that the browser should have, in pixels. */
  get position(): number {
    if (this.exact) return this.top * LINE + this.within;
    const last = this.last();
    const end = last.top + last.within / this.height(last.top);
    const here = this.top + this.within / this.height(this.top);
    return Math.round(end > 0 ? (Math.min(here, end) / end) * this.most : 0);
  }

  /** TaskActions a scroll of the browser to a position in pixels. */
  scrolled(native: number): void {
    const by = native - this.native;
    this.native = native;
    if (this.exact) {
      this.top = Math.floor(native / LINE);
      this.within = native - this.top * LINE;
    } else if (Math.abs(by) <= 2 * this.room) {
      this.move(by);
      // One pixel of the scroll bar can be many rows, so its end is the end.
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

  /** Records a scroll position set by us, not by the user. */
  placed(native: number): void {
    this.native = native;
  }

  /** Whether the scroll bar is at an end although there are more rows in that direction. */
  get misaligned(): boolean {
    if (this.exact) return this.native !== this.position;
    const [low, high] = [this.native <= 1, this.native >= this.most - 1];
    return low !== this.atStart || high !== this.atEnd;
  }

  /** Moves a row near the top edge, below a few previous rows. */
  go(row: number): void {
    this.top = Math.max(0, Math.min(this.rows - 1, row));
    this.within = 0;
    this.move(-Math.min(BEFORE * LINE, (this.room - LINE) / 2));
    this.settle();
  }

  goToEnd(): void {
    Object.assign(this, this.last());
  }

  /** Moves by a number of pixels. */
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

  /** The visible rows, and those up to `over` pixels beyond. */
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

  /** The position with the last row at the bottom edge. */
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
