/** A year, a day each: how much ran, and whether it went well. */

import { signal } from "@preact/signals";
import { useContext, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { now } from "../../app/clock";
import { zone } from "../../app/settings";
import { countOf, lookOf, weightOf, WEEKS, yearTo, type Cell } from "../../model/calendar";
import { tally } from "../../model/states";
import { dayOf, span } from "../../model/time";
import { JobZone, useZone } from "../../pieces/time";
import * as api from "../../wire/api";

const SIZE = 15; // pixels from one day to the next
const LEFT = 34;
const TOP = 20;
const WEEKDAYS = ["Mon", "", "Wed", "", "Fri", "", "Sun"];
const SIGN = { none: "", good: "", mixed: "M4 8.5l4-5", bad: "M3.5 3.5l5 5M8.5 3.5l-5 5", missed: "M6 3v3.4M6 8.6h.01" };

export function Calendar({ job, changed }: { job: string; changed: string }) {
  const shown = useZone();
  const jobZone = useContext(JobZone);
  // The server knows the names of zones; the browser's own has one, too.
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
      {failure && <p class="failure">The calendar could not be read: {failure}.</p>}
      {days && <Year days={days} today={dayOf(now(), shown)} />}
      <p class="quiet none">
        Days are those of {zone.value === "job" ? `the job’s zone, ${jobZone ?? "UTC"}` : named}.
      </p>
    </section>
  );
}

/** The day the reader looks at. */
const picked = signal<string | null>(null);

function Year({ days, today }: { days: api.Day[]; today: string }) {
  const { cells, months } = useMemo(() => yearTo(today, days), [days, today]);
  const field = useRef<HTMLDivElement>(null);
  const most = Math.max(0, ...cells.map(({ counts }) => countOf(counts)));
  const at = cells.find(({ day }) => day === picked.value) ?? cells.at(-1)!;
  useEffect(() => {
    field.current!.scrollLeft = field.current!.scrollWidth;
  }, []);
  const step = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1 }[event.key];
    const to = by === undefined ? undefined : cells[cells.indexOf(at) + by];
    if (!to) return;
    event.preventDefault();
    picked.value = to.day;
    field.current!.querySelector<SVGElement>(`[data-day="${to.day}"]`)?.focus();
  };
  return (
    <>
      <div class="year" ref={field} onKeyDown={step}>
        <svg width={LEFT + WEEKS * SIZE} height={TOP + 7 * SIZE} role="group" aria-label="A year of days">
          {months.map(({ month, week }) => (
            <text key={month} x={LEFT + week * SIZE} y={12}>
              {new Date(`${month}-15T00:00:00Z`).toLocaleDateString(undefined, { month: "short", timeZone: "UTC" })}
            </text>
          ))}
          {WEEKDAYS.map((name, row) => (
            <text key={row} x={0} y={TOP + row * SIZE + 11}>
              {name}
            </text>
          ))}
          {cells.map((cell) => (
            <Day key={cell.day} cell={cell} most={most} focusable={cell === at} />
          ))}
        </svg>
      </div>
      <p class="day" aria-live="polite">
        <b>{new Date(`${at.day}T00:00:00Z`).toLocaleDateString(undefined, { dateStyle: "full", timeZone: "UTC" })}</b>{" "}
        {said(at)}
      </p>
    </>
  );
}

function Day({ cell, most, focusable }: { cell: Cell; most: number; focusable: boolean }) {
  const look = lookOf(cell.counts);
  return (
    <g
      class={`day-of ${look} weight-${weightOf(cell.counts, most)}`}
      data-day={cell.day}
      transform={`translate(${LEFT + cell.week * SIZE} ${TOP + cell.weekday * SIZE})`}
      role="img"
      aria-label={`${cell.day}: ${said(cell)}`}
      tabindex={focusable ? 0 : -1}
      onMouseEnter={() => (picked.value = cell.day)}
      onClick={() => (picked.value = cell.day)}
    >
      <rect width="12" height="12" rx="2.5" />
      {SIGN[look] && <path class="sign" d={SIGN[look]} />}
    </g>
  );
}

function said({ counts }: Cell): string {
  if (!counts) return "nothing";
  const states = Object.entries(counts.states).flatMap(([state, count]) => Array<string>(Math.min(count, 1)).fill(state));
  const parts = states.map((state) => `${counts.states[state as keyof typeof counts.states]} ${tallyWord(state)}`);
  if (counts.skipped) parts.push(`${counts.skipped} due times skipped`);
  if (counts.missed) parts.push(`${counts.missed} missed`);
  if (counts.seconds) parts.push(`${span(counts.seconds * 1000)} in all`);
  return parts.join(", ") || "nothing";
}

/** A state as it is called on the page. */
const tallyWord = (state: string) => tally([state as api.Attempt["state"]]).replace(/^1 /, "");
