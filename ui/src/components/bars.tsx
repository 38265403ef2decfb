/** A job's last executions as bars, oldest first: the height shows the duration, colour and sign the state. */

import { useComputed } from "@preact/signals";
import { now, second } from "../app/clock";
import { executionHref } from "../app/route";
import { heightOf, tookOf } from "../model/bars";
import type { LiveExecution } from "../model/live";
import { LABEL, SIGN } from "../model/states";
import { local, span } from "../model/time";
import { useZone } from "./time";
import "./bars.css";

/**
 * `executions` are newest first; `longest` is the duration of a bar of full height in milliseconds.
 * The Tab key skips bars: see components/roving.
 */
export function Bars({ executions, longest }: { executions: LiveExecution[]; longest: number }) {
  return (
    <span class="bars">
      {[...executions].reverse().map((cell) => (
        <Bar key={cell.id} cell={cell} longest={longest} />
      ))}
    </span>
  );
}

function Bar({ cell, longest }: { cell: LiveExecution; longest: number }) {
  const zone = useZone();
  const state = cell.state.value;
  // Only running executions follow the clock.
  const took = useComputed(() => {
    const run = { state: cell.state.value, ...cell.times.value };
    return tookOf(run, run.started !== null && run.finished === null ? second.value : 0);
  }).value;
  const duration = took === null ? "" : `, ${state === "running" ? "for" : "took"} ${span(took)}`;
  const about = `${local(cell.submitted, new Date(now()), zone)}: ${LABEL[state]}${duration}`;
  return (
    <a class={`state-bar ${state}`} data-state={state} href={executionHref(cell.id)} title={about} aria-label={about} tabIndex={-1}>
      <svg viewBox="0 0 9 34" aria-hidden="true">
        <Height of={heightOf(took, longest)} />
        {state !== "successful" && <path class="sign" transform="translate(0 25) scale(0.75)" d={SIGN[state]} />}
      </svg>
    </a>
  );
}

const FIELD = 24; // pixels, the maximum height
const MIN_HEIGHT = 3;

function Height({ of }: { of: number }) {
  const height = MIN_HEIGHT + (FIELD - MIN_HEIGHT) * of;
  return <rect x="1" width="7" y={FIELD - height} height={height} rx="1.5" />;
}
