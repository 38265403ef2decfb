/** A year of days: the number of executions, and their results. */

import { useSignal } from "@preact/signals";
import { useContext, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { now } from "../../app/clock";
import { choose, chosen } from "../../app/router";
import { zone } from "../../app/settings";
import { countOf, lookOf, weightOf, WEEKS, yearTo, type Cell, type Look } from "../../model/calendar";
import { costTexts } from "../../model/progress";
import { LABEL, STATES } from "../../model/states";
import { dayOf, span } from "../../model/time";
import { JobZone, useZone } from "../../components/time";
import { useWidth } from "../../components/width";
import * as api from "../../api/client";

const MIN_WIDTH = 15; // pixels from one day to the next
const MAX_WIDTH = 22;
const LEFT = 34;
const TOP = 20;
const LEGEND: [Look, string][] = [
  ["good", "all successful"],
  ["mixed", "some failed"],
  ["bad", "half or more failed"],
  ["missed", "due times missed"],
  ["none", "no activity"],
];
const WEEKDAYS = ["Mon", "", "Wed", "", "Fri", "", "Sun"];
const SIGN: Record<Look, string> = { none: "", good: "", mixed: "M4 8.5l4-5", bad: "M3.5 3.5l5 5M8.5 3.5l-5 5", missed: "M6 3v3.4M6 8.6h.01" };

export function Calendar({ job, changed }: { job: string; changed: string }) {
  const shown = useZone();
  const jobZone = useContext(JobZone);
  // The server needs the name of the zone.
  const named = shown ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  const [days, setDays] = useState<api.Day[] | null>(null);
  const [failure, fail] = useState("");
  useEffect(() => {
    let left = false;
    api.getCalendar(job, named).then(
      (found) => !left && (setDays(found), fail("")),
      (error: Error) => !left && fail(error.message),
    );
    return () => void (left = true);
  }, [job, named, changed]);
  return (
    <section class="card" aria-label="Calendar">
      {failure && <p class="failure">The calendar could not be loaded: {failure}.</p>}
      {days && <Year days={days} today={dayOf(now(), shown)} />}
      <p class="quiet none">
        Days are in the time zone {zone.value === "job" ? `of the job, ${jobZone ?? "UTC"}` : named}.
      </p>
    </section>
  );
}

function Year({ days, today }: { days: api.Day[]; today: string }) {
  const { cells, months } = useMemo(() => yearTo(today, days), [days, today]);
  const field = useRef<HTMLDivElement>(null);
  const size = Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, Math.floor((useWidth(field, 0) - LEFT) / WEEKS)));
  const most = Math.max(0, ...cells.map(({ counts }) => countOf(counts)));
  const pointed = useSignal<string | null>(null);
  const find = (day: string | null) => cells.find((cell) => cell.day === day);
  const picked = find(chosen("day")) ?? cells.at(-1)!;
  const shown = find(pointed.value) ?? picked;
  useEffect(() => {
    field.current!.scrollLeft = field.current!.scrollWidth;
  }, [size]);
  const step = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1 }[event.key];
    const to = by === undefined ? undefined : cells[cells.indexOf(picked) + by];
    if (!to) return;
    event.preventDefault();
    choose({ day: to.day });
    field.current!.querySelector<SVGElement>(`[data-day="${to.day}"]`)?.focus();
  };
  return (
    <>
      <div
        class="year"
        ref={field}
        onKeyDown={step}
        onMouseOver={({ target }) => (pointed.value = dayAt(target))}
        onMouseLeave={() => (pointed.value = null)}
        onClick={({ target }) => choose({ day: dayAt(target) })}
      >
        <svg width={LEFT + WEEKS * size} height={TOP + 7 * size} role="group" aria-label="A year of days">
          {months.map(({ month, week }) => (
            <text key={month} x={LEFT + week * size} y={12}>
              {new Date(`${month}-15T00:00:00Z`).toLocaleDateString(undefined, { month: "short", timeZone: "UTC" })}
            </text>
          ))}
          {WEEKDAYS.map((name, row) => (
            <text key={row} x={0} y={TOP + row * size + size / 2 + 3}>
              {name}
            </text>
          ))}
          {cells.map((cell) => (
            <Day key={cell.day} cell={cell} size={size} most={most} picked={cell === picked} />
          ))}
        </svg>
      </div>
      <p class="legend">
        {LEGEND.map(([look, text]) => (
          <span key={look}>
            <svg width="14" height="14" viewBox="-1 -1 14 14" aria-hidden="true">
              <g class={`day-cell ${look} weight-4`}>
                <rect width="12" height="12" rx="2.5" />
                {SIGN[look] && <path class="sign" d={SIGN[look]} />}
              </g>
            </svg>
            {text}
          </span>
        ))}
        <span>stronger colour: more executions</span>
      </p>
      <p class="day" aria-live="polite">
        <b>{new Date(`${shown.day}T00:00:00Z`).toLocaleDateString(undefined, { dateStyle: "full", timeZone: "UTC" })}</b>{" "}
        {describeDay(shown)}
      </p>
    </>
  );
}

const dayAt = (target: EventTarget | null) =>
  target instanceof Element ? (target.closest<SVGElement>("[data-day]")?.dataset.day ?? null) : null;

function Day({ cell, size, most, picked }: { cell: Cell; size: number; most: number; picked: boolean }) {
  const look = lookOf(cell.counts);
  return (
    <g
      class={`day-cell ${look} weight-${weightOf(cell.counts, most)}${picked ? " picked" : ""}`}
      data-day={cell.day}
      transform={`translate(${LEFT + cell.week * size} ${TOP + cell.weekday * size}) scale(${(size - 3) / 12})`}
      role="img"
      aria-label={`${cell.day}: ${describeDay(cell)}`}
      tabindex={picked ? 0 : -1}
    >
      <rect width="12" height="12" rx="2.5" />
      {SIGN[look] && <path class="sign" d={SIGN[look]} />}
    </g>
  );
}

function describeDay({ counts }: Cell): string {
  if (!counts) return "no activity";
  const parts = STATES.filter((state) => counts.states[state]).map((state) => `${counts.states[state]} ${LABEL[state]}`);
  if (counts.skipped) parts.push(`${counts.skipped} due times skipped`);
  if (counts.missed) parts.push(`${counts.missed} missed`);
  if (counts.seconds) parts.push(`${span(counts.seconds * 1000)} in total`);
  if (counts.cost) parts.push(...costTexts(counts.cost).map(({ name, amount }) => `${name} ${amount}`));
  return parts.join(", ") || "no activity";
}
