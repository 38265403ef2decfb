/**
 * The rows of a long list to render: those near the visible part of the page.
 *
 * Rule: all rows have the same height, so that their positions are known without rendering.
 */

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";

const AHEAD = 8; // rows rendered beyond either edge

/**
 * The half-open range of rows to render, of `count` rows of `height` pixels in `box`. If they scroll in
 * `port`, rows outside of it are not rendered.
 */
export function useWindow(
  box: RefObject<HTMLElement | null>,
  count: number,
  height: number,
  port?: RefObject<HTMLElement | null>,
): [number, number] {
  const [range, setRange] = useState<[number, number]>([0, 0]);
  const look = () => {
    if (!box.current) return;
    const { top } = box.current.getBoundingClientRect();
    const seen = port?.current?.getBoundingClientRect() ?? { top: 0, bottom: innerHeight };
    const first = Math.max(0, Math.floor((seen.top - top) / height) - AHEAD);
    const last = Math.min(count, Math.ceil((seen.bottom - top) / height) + AHEAD);
    setRange((held) => (held[0] === first && held[1] === last ? held : [first, Math.max(first, last)]));
  };
  useLayoutEffect(look, [count, height]);
  useEffect(() => {
    const stopped = new AbortController();
    // Captured, since scroll events of inner elements do not bubble.
    const options = { passive: true, capture: true, signal: stopped.signal };
    addEventListener("scroll", look, options);
    addEventListener("resize", look, options);
    return () => stopped.abort();
  }, [count, height]);
  return range;
}
