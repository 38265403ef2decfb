/** The layout of a job's graph. Pure: the width of a text is an argument. */

import { graphlib, layout } from "@dagrejs/dagre";

export interface Node {
  name: string;
  /** The name, shortened to fit. */
  text: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Drawing {
  width: number;
  height: number;
  nodes: Node[];
  /** One path per edge, from its upstream task to its downstream task. */
  edges: { from: string; to: string; path: string }[];
}

const HEIGHT = 34;
const BAND = 30; // space for the sign of the state
const PADDING = 12;
const MAX_WIDTH = 220;
const MARGIN = 6;
const BESIDE = 44; // between columns
const BELOW = 14; // between rows

/** With more tasks dagre takes seconds (16 s for 1,000), so a simpler column layout is used. */
const MAX_FOR_DAGRE = 200;

/** `name` shortened to `room` with an ellipsis; never cut inside a character. */
export function fit(name: string, room: number, measure: (text: string) => number): string {
  if (measure(name) <= room) return name;
  const letters = [...name];
  let low = 0;
  let high = letters.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(`${letters.slice(0, middle).join("")}…`) <= room) low = middle;
    else high = middle - 1;
  }
  return `${letters.slice(0, low).join("")}…`;
}

/** The tasks from left to right, each after its upstream tasks. */
export function draw(
  tasks: string[],
  dag: Record<string, string[]>,
  measure: (text: string) => number,
): Drawing {
  // Tasks are numbered, since a name can be any text, even "__proto__" or "\x00".
  const number = new Map(tasks.map((name, index) => [name, index]));
  const edges: [number, number][] = [];
  for (const [from, downstream] of Object.entries(dag))
    for (const to of downstream) {
      const [a, b] = [number.get(from), number.get(to)];
      if (a !== undefined && b !== undefined) edges.push([a, b]);
    }
  const texts = tasks.map((name) => fit(name, MAX_WIDTH, measure));
  const widths = texts.map((text) => Math.ceil(BAND + measure(text) + PADDING));
  const placed = tasks.length > MAX_FOR_DAGRE ? inColumns(widths, edges) : byDagre(widths, edges);
  return {
    width: placed.width,
    height: placed.height,
    nodes: tasks.map((name, index) => ({
      name,
      text: texts[index]!,
      ...placed.corners[index]!,
      width: widths[index]!,
      height: HEIGHT,
    })),
    edges: edges.map(([from, to], index) => ({
      from: tasks[from]!,
      to: tasks[to]!,
      path: curve(placed.lines[index]!),
    })),
  };
}

interface Placed {
  width: number;
  height: number;
  corners: Point[];
  lines: Point[][];
}

function byDagre(widths: number[], edges: [number, number][]): Placed {
  const graph = new graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: BELOW, ranksep: BESIDE, marginx: MARGIN, marginy: MARGIN });
  widths.forEach((width, index) => graph.setNode(String(index), { width, height: HEIGHT }));
  for (const [from, to] of edges) graph.setEdge(String(from), String(to), {});
  layout(graph);
  const size = graph.graph() as { width?: number; height?: number };
  const corners = widths.map((width, index) => {
    const { x, y } = graph.node(String(index)) as Point;
    return { x: x - width / 2, y: y - HEIGHT / 2 };
  });
  return {
    width: Math.ceil(size.width ?? 0),
    height: Math.ceil(size.height ?? 0),
    corners,
    lines: edges.map(([from, to]) => {
      // Edges join the sides of boxes; dagre would use the nearest points. Between neighbouring
      // columns it gives one point more, which no box is in the way of.
      const { points } = graph.edge(String(from), String(to)) as { points: Point[] };
      const bends = points.length > 3 ? points.slice(1, -1) : [];
      return [leaving(corners[from]!, widths[from]!), ...bends, arriving(corners[to]!)];
    }),
  };
}

const leaving = ({ x, y }: Point, width: number): Point => ({ x: x + width, y: y + HEIGHT / 2 });
const arriving = ({ x, y }: Point): Point => ({ x, y: y + HEIGHT / 2 });

/** Puts each task into the column after its last upstream task. */
function inColumns(widths: number[], edges: [number, number][]): Placed {
  const downstream: number[][] = widths.map(() => []);
  const waiting = widths.map(() => 0);
  for (const [from, to] of edges) {
    downstream[from]!.push(to);
    waiting[to]!++;
  }
  const column = widths.map(() => 0);
  const ready = [...widths.keys()].filter((task) => waiting[task] === 0);
  for (const task of ready)
    for (const next of downstream[task]!) {
      column[next] = Math.max(column[next]!, column[task]! + 1);
      if (--waiting[next]! === 0) ready.push(next);
    }
  const wide: number[] = [];
  widths.forEach((width, task) => (wide[column[task]!] = Math.max(wide[column[task]!] ?? 0, width)));
  const left = [MARGIN];
  wide.forEach((width, index) => left.push(left[index]! + width + BESIDE));
  const columns = untangled(column, edges);
  const most = Math.max(0, ...columns.map(({ length }) => length));
  const corners: Point[] = [];
  columns.forEach((tasks, index) => {
    const top = MARGIN + ((most - tasks.length) * (HEIGHT + BELOW)) / 2;
    tasks.forEach((task, row) => (corners[task] = { x: left[index]!, y: top + row * (HEIGHT + BELOW) }));
  });
  return {
    width: left[left.length - 1]! - BESIDE + MARGIN,
    height: 2 * MARGIN + most * (HEIGHT + BELOW) - BELOW,
    corners,
    lines: edges.map(([from, to]) => [leaving(corners[from]!, widths[from]!), arriving(corners[to]!)]),
  };
}

const SWEEPS = 4; // more sweeps change little

/** The tasks of each column, ordered by the mean position of their neighbours so that few edges cross. */
function untangled(column: number[], edges: [number, number][]): number[][] {
  const columns: number[][] = [];
  column.forEach((at, task) => (columns[at] ??= []).push(task));
  const before: number[][] = column.map(() => []);
  const after: number[][] = column.map(() => []);
  for (const [from, to] of edges) {
    after[from]!.push(to);
    before[to]!.push(from);
  }
  const place: number[] = [];
  const settle = (tasks: number[]) => tasks.forEach((task, row) => (place[task] = (row + 0.5) / tasks.length));
  columns.forEach(settle);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const back = sweep % 2 === 1;
    for (const tasks of back ? columns.toReversed() : columns) {
      const wanted = new Map(
        tasks.map((task) => {
          const near = (back ? after : before)[task]!;
          return [task, near.length ? near.reduce((sum, other) => sum + place[other]!, 0) / near.length : place[task]!];
        }),
      );
      tasks.sort((a, b) => wanted.get(a)! - wanted.get(b)!);
      settle(tasks);
    }
  }
  return columns;
}

interface Point {
  x: number;
  y: number;
}

/** A curve through the points with horizontal ends. */
function curve(points: Point[]): string {
  const at = (n: number) => Math.round(n * 10) / 10;
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${at(first.x)} ${at(first.y)}`;
  let from = first;
  for (const to of rest) {
    const middle = at((from.x + to.x) / 2);
    path += `C${middle} ${at(from.y)} ${middle} ${at(to.y)} ${at(to.x)} ${at(to.y)}`;
    from = to;
  }
  return path;
}
