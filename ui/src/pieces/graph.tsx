/** A job's tasks as a graph; each node shows the state in its cell. */

import type { ReadonlySignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { draw, type Node } from "../model/layout";
import { LABEL, SIGN, type State } from "../model/states";
import "./graph.css";

const SMALLEST = 0.75; // of the natural size; a graph that needs less scrolls

export function Graph(props: {
  tasks: string[];
  dag: Record<string, string[]>;
  cell: (task: string) => ReadonlySignal<State> | undefined;
  selected: string | null;
  onPick: (task: string) => void;
}) {
  const { tasks, dag } = props;
  const drawing = useMemo(() => draw(tasks, dag, measure), [tasks, dag]);
  return (
    <div class="graph">
      <svg
        viewBox={`0 0 ${drawing.width} ${drawing.height}`}
        style={{ width: `${drawing.width}px`, minWidth: `${drawing.width * SMALLEST}px` }}
        role="group"
        aria-label={`Graph of ${tasks.length} tasks`}
      >
        <g class="edges">
          {drawing.edges.map((edge) => (
            <path key={`${edge.from}\0${edge.to}`} d={edge.path} />
          ))}
        </g>
        {drawing.nodes.map((node) => (
          <TaskNode
            key={node.name}
            node={node}
            cell={props.cell(node.name)}
            selected={node.name === props.selected}
            onPick={props.onPick}
          />
        ))}
      </svg>
    </div>
  );
}

function TaskNode(props: {
  node: Node;
  cell: ReadonlySignal<State> | undefined;
  selected: boolean;
  onPick: (task: string) => void;
}) {
  const { node } = props;
  const state = props.cell?.value ?? "notstarted";
  const about = `${node.name}: ${LABEL[state]}`;
  const pick = () => props.onPick(node.name);
  return (
    <g
      class={`node ${state}${props.selected ? " selected" : ""}`}
      data-task={node.name}
      data-state={state}
      transform={`translate(${node.x} ${node.y})`}
      role="button"
      tabindex={0}
      aria-label={about}
      onClick={pick}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pick();
      }}
    >
      <title>{about}</title>
      <rect class="body" width={node.width} height={node.height} rx="8" />
      <rect class="badge" x="7" y="9" width="16" height="16" rx="4" />
      <path class="sign" transform="translate(7 9) scale(1.3333)" d={SIGN[state]} />
      <text x="30" y={node.height / 2 + 4.5}>
        {node.text}
      </text>
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
