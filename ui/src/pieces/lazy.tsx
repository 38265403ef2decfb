/** What is far from the part of the page that is seen, and not drawn yet. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** Its children once it has come near the part of the page that is seen, nothing before. */
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
