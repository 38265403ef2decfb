/**
 * Which rows of a long list are drawn: those near the part of the page that is seen.
 *
 * Rule: all rows are equally high, so that where one stands is known without drawing it.
 */

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";

const AHEAD = 8; // rows drawn beyond either edge

/** The half-open range of the `count` rows of `height` pixels in `box` that are to be drawn. */
export function useWindow(box: RefObject<HTMLElement | null>, count: number, height: number): [number, number] {
  const [range, setRange] = useState<[number, number]>([0, 0]);
  const look = () => {
    if (!box.current) return;
    const { top } = box.current.getBoundingClientRect();
    const first = Math.max(0, Math.floor(-top / height) - AHEAD);
    const last = Math.min(count, Math.ceil((innerHeight - top) / height) + AHEAD);
    setRange((held) => (held[0] === first && held[1] === last ? held : [first, Math.max(first, last)]));
  };
  useLayoutEffect(look, [count, height]);
  useEffect(() => {
    const stopped = new AbortController();
    // Captured: what holds the rows may scroll by itself, and such an event does not rise.
    const options = { passive: true, capture: true, signal: stopped.signal };
    addEventListener("scroll", look, options);
    addEventListener("resize", look, options);
    return () => stopped.abort();
  }, [count, height]);
  return range;
}
