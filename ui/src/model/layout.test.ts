import { describe, expect, test } from "vitest";
import { draw, fit } from "./layout";

const measure = (text: string) => [...text].length * 7;

describe("the graph", () => {
  const many = Array.from({ length: 1000 }, (_, n) => `task-${n}`);

  test.each([
    ["a diamond", ["a", "b", "c", "d"], { a: ["b", "c"], b: ["d"], c: ["d"], d: [] }],
    ["a thousand tasks", many, Object.fromEntries(many.map((name, n) => [name, n + 100 < 1000 ? [many[n + 100]!, many[900 + (n % 100)]!] : []]))],
  ] as [string, string[], Record<string, string[]>][])("of %s has every task right of all it waits for, and none on another", (_, tasks, dag) => {
    const { nodes, edges, width, height } = draw(tasks, dag, measure);
    const at = new Map(nodes.map((node) => [node.name, node]));
    expect(edges.length).toBeGreaterThanOrEqual(4);
    for (const { from, to } of edges) expect(at.get(to)!.x).toBeGreaterThan(at.get(from)!.x + at.get(from)!.width);
    const places = new Set(nodes.map(({ x, y }) => `${Math.round(x)} ${Math.round(y)}`));
    expect(places.size).toBe(tasks.length);
    for (const node of nodes) {
      expect(node.x).toBeGreaterThanOrEqual(0);
      expect(node.y).toBeGreaterThanOrEqual(0);
      expect(node.x + node.width).toBeLessThanOrEqual(width);
      expect(node.y + node.height).toBeLessThanOrEqual(height);
    }
  });

  test("many tasks in columns are ordered so that few edges cross", () => {
    const tasks = Array.from({ length: 300 }, (_, n) => `t${n}`);
    // Three columns of a hundred, connected one to one, with names in reverse order.
    const dag = Object.fromEntries(tasks.map((name, n) => [name, n < 200 ? [tasks[(Math.floor(n / 100) + 1) * 100 + 99 - (n % 100)]!] : []]));
    const { nodes, edges } = draw(tasks, dag, measure);
    const row = new Map(nodes.map(({ name, y }) => [name, y]));
    for (const { from, to } of edges) expect(row.get(to)).toBe(row.get(from));
  });

  test("accepts tasks named like properties of Object", () => {
    const { nodes, edges } = draw(["__proto__", "constructor"], JSON.parse('{"__proto__":["constructor"]}'), measure);
    expect(nodes.map(({ name }) => name)).toEqual(["__proto__", "constructor"]);
    expect(edges).toHaveLength(1);
  });

  test("a long name is shortened between characters", () => {
    expect(fit("short", 70, measure)).toBe("short");
    expect(fit("👩‍🔬".repeat(20), 70, measure)).toMatch(/…$/);
    expect(measure(fit("x".repeat(250), 70, measure))).toBeLessThanOrEqual(70);
    expect(fit("😀😀😀", 15, measure)).toBe("😀…");
  });
});
