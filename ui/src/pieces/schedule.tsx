/** When a job runs: in words, as it was written, and in which zone. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";

/** Puts a schedule in words; null until what knows the words is there. */
const words = signal<((schedule: string) => string) | null>(null);

void import("../model/words").then(
  ({ inWords }) => (words.value = inWords),
  () => {}, // The expression says the same.
);

/** `children` stand before the expression. */
export function Schedule(props: { schedule: string | null; timezone: string; children?: ComponentChildren }) {
  const { schedule, timezone } = props;
  if (!schedule) return <span class="quiet">by hand only</span>;
  const said = words.value?.(schedule) ?? "";
  return (
    <span class="schedule">
      {said && <span title={said}>{said}</span>}
      <span class="quiet">
        {props.children}
        <code title={schedule}>{schedule}</code>
        {timezone && timezone !== "UTC" && ` ${timezone}`}
      </span>
    </span>
  );
}
