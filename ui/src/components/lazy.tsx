/** Lazy rendering of content far below the visible part. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** Renders its children once it is near the visible part of the page. */
export function Lazy({ class: name, children }: { class: string; children: () => ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near || !box.current) return;
    const watch = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && setNear(true), {
      rootMargin: "600px",
    });
    watch.observe(box.current);
    return () => watch.disconnect();
  }, [near]);
  return (
    <div class={name} ref={box}>
      {near && children()}
    </div>
  );
}
