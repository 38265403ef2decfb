/**
 * A job's tasks as a graph that can be zoomed and moved. Each node shows the state in its cell.
 *
 * Rule: zooming and moving changes one attribute of the drawing; a state change renders its node.
 */

import { useComputed, useSignal, useSignalEffect, type ReadonlySignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { useKeys } from "../app/keys";
import { countsText, segmentsOf, type Counts } from "../model/items";
import { draw, type Drawing, type Node } from "../model/layout";
import { LABEL, SIGN, type State } from "../model/states";
import { beside, bounded, fitted, opening, revealing, zoomed, type View } from "../model/viewport";
import "./graph.css";

const STEP = 1.3; // the zoom factor per press
const FAR = 0.42; // the scale below which names are too small to read and not shown
const DRAGS = 4; // pixels a pointer moves before a drag starts
const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** `selected` is scrolled into view; `onPick` is called with a clicked task. */
export function Graph(props: {
  tasks: string[];
  dag: Record<string, string[]>;
  cell: (task: string) => ReadonlySignal<State> | undefined;
  /** The counts of a mapped task's items. */
  items?: (task: string) => ReadonlySignal<Counts | null> | undefined;
  /** The tasks that each branch chose, by its name. */
  choices?: Choices;
  selected: string | null;
  onPick: (task: string) => void;
}) {
  const { tasks, dag, choices, selected, onPick } = props;
  const drawing = useMemo(() => draw(tasks, dag, measure), [tasks, dag]);
  const { box, transform, far, zoom, fit, reveal } = useView(drawing, selected);
  const entry = drawing.nodes.find(({ name }) => name === selected)?.name ?? drawing.nodes[0]?.name;
  useKeys("Graph", [
    { key: "+", does: "Zoom in", act: () => zoom(STEP) },
    { key: "-", does: "Zoom out", act: () => zoom(1 / STEP) },
    { key: "0", does: "Fit the graph", act: fit },
  ]);
  const step = (event: KeyboardEvent, from: Node) => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const next = beside(drawing.nodes, from, ...arrow);
    if (!next) return;
    reveal(next);
    const at = drawing.nodes.indexOf(next);
    box.current!.querySelectorAll<SVGElement>(".node")[at]?.focus({ preventScroll: true });
  };
  return (
    <div
      class="graph"
      style={{ "--graph-height": `${drawing.height}px`, "--graph-ratio": `${drawing.width} / ${drawing.height}` }}
    >
      <svg
        ref={box}
        class={far}
        role="group"
        aria-label={`Graph of ${tasks.length} tasks`}
      >
        <g transform={transform}>
          <Edges drawing={drawing} choices={choices} />
          <Edges drawing={drawing} choices={choices} of={selected} />
          {drawing.nodes.map((node) => (
            <TaskNode
              key={node.name}
              node={node}
              cell={props.cell(node.name)}
              items={props.items?.(node.name)}
              selected={node.name === selected}
              entry={node.name === entry}
              onPick={onPick}
              onStep={step}
            />
          ))}
        </g>
      </svg>
      <div class="zoom">
        <button type="button" class="icon" aria-label="Zoom in" title="Zoom in (+), or Ctrl and wheel" onClick={() => zoom(STEP)}>
          +
        </button>
        <button type="button" class="icon" aria-label="Zoom out" title="Zoom out (-), or Ctrl and wheel" onClick={() => zoom(1 / STEP)}>
          −
        </button>
        <button type="button" class="icon" aria-label="Fit the graph" title="Fit the graph (0)" onClick={fit}>
          <svg viewBox="0 0 12 12" aria-hidden="true">
            <path d="M1.5 4V1.5H4M8 1.5h2.5V4M10.5 8v2.5H8M4 10.5H1.5V8" />
          </svg>
        </button>
      </div>
    </div>
  );
}

/** The visible part of `drawing` in `box`, and functions to change it. */
function useView(drawing: Drawing, selected: string | null) {
  const box = useRef<SVGSVGElement>(null);
  const view = useSignal<View>({ x: 0, y: 0, scale: 1 });
  const touched = useRef(false);
  const transform = useComputed(() => {
    const { x, y, scale } = view.value;
    return `translate(${x} ${y}) scale(${scale})`;
  });
  const far = useComputed(() => (view.value.scale < FAR ? "far" : ""));
  const show = (next: View) => {
    touched.current = true;
    view.value = bounded(next, drawing, box.current!.getBoundingClientRect());
  };
  const zoom = (factor: number, x?: number, y?: number) => {
    const { left, top, width, height } = box.current!.getBoundingClientRect();
    show(zoomed(view.peek(), factor, x === undefined ? width / 2 : x - left, y === undefined ? height / 2 : y - top));
  };
  const fit = () => {
    view.value = fitted(drawing, box.current!.getBoundingClientRect());
    touched.current = false;
  };

  useEffect(() => {
    const room = box.current!;
    touched.current = false;
    const watch = new ResizeObserver(() => {
      // The observer is called once more after unmount.
      if (!box.current) return;
      const size = room.getBoundingClientRect();
      view.value = touched.current ? bounded(view.peek(), drawing, size) : opening(drawing, size);
      reveal(chosen.current);
    });
    watch.observe(room);
    return () => watch.disconnect();
  }, [drawing]);

  const reveal = (node: Node | undefined) => {
    if (!node) return;
    const size = box.current!.getBoundingClientRect();
    view.value = bounded(revealing(view.peek(), node, size), drawing, size);
  };
  const chosen = useRef<Node>(undefined);
  chosen.current = drawing.nodes.find(({ name }) => name === selected);
  useEffect(() => reveal(chosen.current), [drawing, selected]);

  // If all of it is visible, a finger scrolls the page.
  useSignalEffect(() => {
    const { scale } = view.value;
    if (!box.current) return;
    const { width, height } = box.current.getBoundingClientRect();
    const whole = drawing.width * scale <= width + 1 && drawing.height * scale <= height + 1;
    box.current.style.touchAction = whole ? "pan-x pan-y" : "none";
  });

  useEffect(() => {
    const room = box.current!;
    const ended = new AbortController();
    const { signal } = ended;
    const fingers = new Map<number, { x: number; y: number }>();
    let dragged = false;

    const spread = () => {
      const [a, b] = [...fingers.values()];
      return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
    };
    room.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        zoom(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 300)), event.clientX, event.clientY);
      },
      { signal, passive: false },
    );
    room.addEventListener(
      "pointerdown",
      (event) => {
        if (event.button !== 0) return;
        if (!fingers.size) dragged = false;
        fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      },
      { signal },
    );
    room.addEventListener(
      "pointermove",
      (event) => {
        const from = fingers.get(event.pointerId);
        if (!from) return;
        const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
        if (!dragged && Math.hypot(dx, dy) < DRAGS) return;
        if (!dragged) room.setPointerCapture(event.pointerId);
        dragged = true;
        const before = spread();
        fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
        if (fingers.size === 2) {
          const [a, b] = [...fingers.values()];
          zoom(spread() / (before || 1), (a!.x + b!.x) / 2, (a!.y + b!.y) / 2);
        } else show({ ...view.peek(), x: view.peek().x + dx, y: view.peek().y + dy });
      },
      { signal },
    );
    const lift = (event: PointerEvent) => void fingers.delete(event.pointerId);
    room.addEventListener("pointerup", lift, { signal });
    room.addEventListener("pointercancel", lift, { signal });
    // The click at the end of a drag must not select a task.
    room.addEventListener(
      "click",
      (event) => {
        if (dragged) event.stopPropagation();
        dragged = false;
      },
      { signal, capture: true },
    );
    return () => ended.abort();
  }, [drawing]);

  return { box, transform, far, zoom, fit, reveal };
}

/** The tasks that branches chose, by the names of the branches that have. */
export type Choices = Record<string, string[]>;

/** All edges, or those that begin or end at the task `of`. */
function Edges({ drawing, choices, of }: { drawing: Drawing; choices: Choices | undefined; of?: string | null }) {
  const rejected = (from: string, to: string) => choices !== undefined && from in choices && !choices[from]!.includes(to);
  return useMemo(
    () => (
      <g class={of === undefined ? "edges" : "edges lit"}>
        {drawing.edges
          .filter(({ from, to }) => of === undefined || from === of || to === of)
          .map((edge) => (
            <path key={`${edge.from}\0${edge.to}`} class={rejected(edge.from, edge.to) ? "rejected" : undefined} d={edge.path} />
          ))}
      </g>
    ),
    [drawing, choices, of],
  );
}

function TaskNode(props: {
  node: Node;
  cell: ReadonlySignal<State> | undefined;
  items: ReadonlySignal<Counts | null> | undefined;
  selected: boolean;
  /** Whether the Tab key stops here; arrows lead on. */
  entry: boolean;
  onPick: (task: string) => void;
  onStep: (event: KeyboardEvent, from: Node) => void;
}) {
  const { node } = props;
  const state = props.cell?.value ?? "notstarted";
  const counts = props.items?.value;
  const about = `${node.name}: ${LABEL[state]}${counts ? `, ${countsText(counts)}` : ""}`;
  const pick = () => props.onPick(node.name);
  return (
    <g
      class={`node ${state}${props.selected ? " selected" : ""}`}
      data-task={node.name}
      data-state={state}
      transform={`translate(${node.x} ${node.y})`}
      role="button"
      tabindex={props.entry ? 0 : -1}
      aria-label={about}
      aria-pressed={props.selected}
      onClick={pick}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return props.onStep(event, node);
        event.preventDefault();
        pick();
      }}
    >
      <title>{about}</title>
      <rect class="body" width={node.width} height={node.height} rx="8" />
      <rect class="badge" x="7" y="9" width="16" height="16" rx="4" />
      <path class="sign" transform="translate(7 9) scale(1.3333)" d={SIGN[state]} />
      <text x="30" y={node.height / 2 + (counts ? 2 : 4.5)}>
        {node.text}
      </text>
      {counts && <Segments counts={counts} width={node.width - 42} top={node.height - 9} />}
    </g>
  );
}

/** The items of a mapped task as a bar of segments in the colours of their states. */
function Segments({ counts, width, top }: { counts: Counts; width: number; top: number }) {
  return (
    <g class="segments" transform={`translate(30 ${top})`}>
      <rect class="rest" width={width} height="4" rx="2" />
      {segmentsOf(counts).map(({ state, from, share }) => (
        <rect key={state} class={`segment ${state}`} x={from * width} width={share * width} height="4" />
      ))}
    </g>
  );
}

let pen: CanvasRenderingContext2D | null | undefined;

/** The width of a task's name in the font of the graph, in pixels. */
function measure(text: string): number {
  if (pen === undefined) {
    pen = document.createElement("canvas").getContext("2d");
    if (pen) pen.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  }
  return pen ? pen.measureText(text).width : text.length * 8;
}
