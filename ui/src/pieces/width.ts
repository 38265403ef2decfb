/** How wide an element is, as the window or what is around it changes. */

import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";

/** In pixels; `standard` until the element is there. */
export function useWidth(box: RefObject<Element | null>, standard: number): number {
  const [width, setWidth] = useState(standard);
  useLayoutEffect(() => {
    if (!box.current) return;
    setWidth(box.current.clientWidth);
    const watch = new ResizeObserver(([entry]) => setWidth(Math.round(entry!.contentRect.width)));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return width;
}
