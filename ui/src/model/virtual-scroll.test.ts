import { describe, expect, test } from "vitest";
import { MAX_HEIGHT, LINE, VirtualScroll } from "./virtual-scroll";

function virtualScroll(count: number, wraps = false): VirtualScroll {
  const made = new VirtualScroll();
  made.room = 400;
  if (wraps) made.wrap(true);
  made.resize(count);
  return made;
}

describe("a virtual list", () => {
  test("with few rows renders completely and does not scroll", () => {
    const few = virtualScroll(3);
    expect(few.window(100)).toEqual({ first: 0, end: 3, offset: 0 });
    expect([few.atStart, few.atEnd, few.length]).toEqual([true, true, 60]);
  });

  test("shows the rows at the scroll position, to the pixel", () => {
    const long = virtualScroll(100_000);
    long.scrolled(12_345);
    expect([long.top, long.within]).toEqual([617, 5]);
    const { first, end, offset } = long.window(200);
    expect(offset).toBe(first * LINE);
    expect(first).toBeLessThanOrEqual(607);
    expect(end * LINE).toBeGreaterThanOrEqual(12_345 + 400 + 200);
    expect(end - first).toBeLessThan(50);
  });

  test("ends with its last row at the bottom edge", () => {
    const long = virtualScroll(1001);
    long.goToEnd();
    expect(long.position).toBe(1001 * LINE - 400);
    long.scrolled(long.length);
    expect(long.atEnd).toBe(true);
    expect(long.window(0).end).toBe(1001);
  });

  test("jumps to a row below a few previous rows, if there is space", () => {
    const long = virtualScroll(1000);
    long.go(500);
    expect(long.position).toBe(496 * LINE);
    long.go(2);
    expect(long.atStart).toBe(true);
    long.go(5000);
    expect(long.atEnd).toBe(true);
  });

  test("stays at its end when it shrinks", () => {
    const long = virtualScroll(1000);
    long.go(900);
    long.resize(10);
    expect([long.top, long.atEnd]).toEqual([0, true]);
  });
});

/** Simulates a browser: scrolls by `by` within bounds, and corrects the scroll bar. */
function browse(at: { native: number }, list: VirtualScroll, by: number): void {
  at.native = Math.max(0, Math.min(list.length - list.room, at.native + by));
  list.scrolled(at.native);
  if (list.misaligned) {
    at.native = list.position;
    list.placed(at.native);
  }
}

describe("ten million rows", () => {
  const rows = 10_000_000;

  test("stay below the browser's height limit, and every row is reachable", () => {
    const list = virtualScroll(rows);
    expect(list.length).toBe(MAX_HEIGHT);
    list.scrolled(MAX_HEIGHT - 400);
    expect(list.window(0).end).toBe(rows);
    list.scrolled(0);
    expect(list.atStart).toBe(true);
    list.scrolled(MAX_HEIGHT / 2);
    expect(list.top / rows).toBeCloseTo(0.5, 2);
  });

  test("scroll by pixels for short distances, also past the end of the bar", () => {
    const list = virtualScroll(rows);
    const at = { native: 0 };
    let before = 0;
    for (let step = 0; step < 5000; step++) {
      browse(at, list, 120);
      const here = list.top * LINE + list.within;
      expect(here - before).toBe(120);
      before = here;
    }
    for (let step = 0; step < 5000; step++) browse(at, list, -120);
    expect(list.atStart).toBe(true);
    expect(at.native).toBe(0);
  });

  test("end with the last row", () => {
    const list = virtualScroll(rows);
    const at = { native: 0 };
    browse(at, list, MAX_HEIGHT);
    for (let step = 0; step < 50; step++) browse(at, list, -100);
    expect(list.atEnd).toBe(false);
    for (let step = 0; step < 60; step++) browse(at, list, 100);
    expect([list.atEnd, list.window(0).end]).toEqual([true, rows]);
  });
});

describe("wrapped rows", () => {
  function wrapped(): VirtualScroll {
    const list = virtualScroll(1000, true);
    for (let row = 0; row < 1000; row++) list.measure(row, LINE * (1 + (row % 5)));
    return list;
  }

  test("scroll by their own heights in both directions", () => {
    const list = wrapped();
    const at = { native: 0 };
    for (let step = 0; step < 30; step++) browse(at, list, 100);
    expect([list.top, list.within]).toEqual([50, 0]);
    const { first, offset } = list.window(100);
    expect(offset).toBeLessThanOrEqual(at.native - 100);
    expect(first).toBeLessThan(50);
    for (let step = 0; step < 30; step++) browse(at, list, -100);
    expect([list.top, list.within, at.native]).toEqual([0, 0, 0]);
  });

  test("are all reachable if they are few, at any height", () => {
    const list = virtualScroll(10, true);
    for (let row = 0; row < 10; row++) list.measure(row, 100);
    const at = { native: 0 };
    for (let step = 0; step < 12; step++) browse(at, list, 50);
    expect([list.atEnd, list.window(0).end]).toEqual([true, 10]);
  });

  test("end with the last row at the bottom edge", () => {
    const list = wrapped();
    const at = { native: 0 };
    for (let step = 0; step < 700; step++) browse(at, list, 100);
    expect(list.atEnd).toBe(true);
    let below = -list.within;
    for (let row = list.top; row < 1000; row++) below += list.height(row);
    expect(below).toBe(400);
  });
});
