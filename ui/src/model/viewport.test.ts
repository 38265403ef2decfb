import { describe, expect, test } from "vitest";
import { beside, bounded, fitted, LARGEST, opening, revealing, SMALLEST, zoomed } from "./viewport";

const room = { width: 600, height: 400 };

describe("the visible part of a drawing", () => {
  test("a fitted drawing is centred and never enlarged", () => {
    expect(fitted({ width: 1200, height: 400 }, room)).toEqual({ scale: 0.5, x: 0, y: 100 });
    expect(fitted({ width: 100, height: 100 }, room)).toEqual({ scale: 1, x: 250, y: 150 });
  });

  test("an empty box or drawing causes no division by zero", () => {
    expect(fitted({ width: 0, height: 0 }, { width: 0, height: 0 })).toEqual({ scale: 1, x: 0, y: 0 });
    expect(fitted({ width: 100, height: 0 }, { width: 0, height: 0 }).scale).toBeGreaterThan(0);
  });

  test("a drawing that would be too small opens readable at its beginning", () => {
    expect(opening({ width: 9000, height: 40 }, room)).toMatchObject({ scale: 0.75, x: 0 });
    expect(opening({ width: 2000, height: 2400 }, room).scale).toBeCloseTo(400 / 2400);
  });

  test("zooming keeps the point under the pointer, within limits", () => {
    const view = { x: -50, y: 20, scale: 1 };
    const near = zoomed(view, 2, 100, 100);
    const point = (v: typeof view) => [(100 - v.x) / v.scale, (100 - v.y) / v.scale];
    expect(point(near)).toEqual(point(view));
    expect(zoomed(view, 1000, 0, 0).scale).toBe(LARGEST);
    expect(zoomed(view, 1e-9, 0, 0).scale).toBe(SMALLEST);
  });

  test("a drawing cannot be moved out of view", () => {
    const drawing = { width: 1000, height: 100 };
    expect(bounded({ x: 500, y: -900, scale: 1 }, drawing, room)).toEqual({ x: 0, y: 150, scale: 1 });
    expect(bounded({ x: -5000, y: 0, scale: 1 }, drawing, room).x).toBe(-400);
  });

  test("a selected box is revealed by the smallest move, or none if it is visible", () => {
    const view = { x: 0, y: 0, scale: 1 };
    expect(revealing(view, { x: 100, y: 100, width: 50, height: 30 }, room)).toBe(view);
    expect(revealing(view, { x: 900, y: 100, width: 50, height: 30 }, room)).toEqual({ x: -374, y: 0, scale: 1 });
  });

  test("arrows lead to the nearest box in their direction", () => {
    const at = (name: string, x: number, y: number) => ({ name, x, y, width: 10, height: 10 });
    const [a, b, c] = [at("a", 0, 0), at("b", 100, 5), at("c", 0, 50)];
    expect(beside([a, b, c], a, 1, 0)).toBe(b);
    expect(beside([a, b, c], a, 0, 1)).toBe(c);
    expect(beside([a, b, c], a, -1, 0)).toBeUndefined();
  });
});
