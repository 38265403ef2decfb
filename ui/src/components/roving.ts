/**
 * Roving focus: a group of many links is one stop of the Tab key, and arrow keys move within it.
 *
 * Rule: only the DOM has the current stop, so that moving does not render. Links must have a
 * `tabIndex` of -1, and be in the document in visual order.
 */

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

const STEPS: Record<string, [number, number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  Home: [0, -Infinity],
  End: [0, Infinity],
};

type Link = HTMLElement | SVGElement;

/**
 * The event handlers of the group. `lines` and, in each of them, `links` are selectors. The first
 * stop is the last link of the first line: the newest execution.
 */
export function useRoving(field: RefObject<Link | null>, lines: string, links: string) {
  const inLines = () =>
    [...field.current!.querySelectorAll(lines)].map((line) => [...line.querySelectorAll<Link>(links)]);
  const stopAt = (link: Link) => {
    for (const other of field.current!.querySelectorAll<Link>(`${links}[tabindex="0"]`))
      if (other !== link) other.setAttribute("tabindex", "-1");
    link.setAttribute("tabindex", "0");
  };
  const visited = useRef(false);
  useEffect(() => {
    if (!field.current || (visited.current && field.current.querySelector(`${links}[tabindex="0"]`))) return;
    const first = inLines().find((line) => line.length);
    if (first) stopAt(first.at(-1)!);
  });
  return {
    onFocusIn: ({ target }: FocusEvent) => {
      const link = (target as Element).closest<Link>(links);
      if (!link) return;
      visited.current = true;
      stopAt(link);
    },
    onKeyDown: (event: KeyboardEvent) => {
      const step = STEPS[event.key];
      if (!step || event.metaKey || event.ctrlKey || event.altKey) return;
      const all = inLines();
      const row = all.findIndex((line) => line.includes(event.target as Link));
      if (row < 0) return;
      event.preventDefault();
      const line = all[Math.max(0, Math.min(all.length - 1, row + step[0]))]!;
      const column = all[row]!.indexOf(event.target as Link) + step[1];
      line[Math.max(0, Math.min(line.length - 1, column))]?.focus();
    },
  };
}
