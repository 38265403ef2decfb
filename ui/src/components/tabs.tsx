/** Tabs; the URL has the selected one. */

import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect } from "preact/hooks";
import { choose, chosen } from "../app/router";

export interface Tab {
  /** The value in the URL. */
  key: string;
  label: string;
  view: () => ComponentChildren;
}

/** The first tab is selected unless the URL has another one as `choice`. */
export function Tabs({ label, choice, tabs }: { label: string; choice: string; tabs: Tab[] }) {
  const id = useId();
  const wanted = chosen(choice);
  const shown = tabs.find(({ key }) => key === wanted) ?? tabs[0]!;
  const pick = ({ key }: Tab) => choose({ [choice]: key === tabs[0]!.key ? null : key }, true);
  const step = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(shown) + by + tabs.length) % tabs.length]!;
    pick(next);
    document.getElementById(`${id}${next.key}`)?.focus();
  };
  // If not all fit, the selected tab is scrolled into view.
  useLayoutEffect(() => document.getElementById(`${id}${shown.key}`)?.scrollIntoView({ block: "nearest" }), [shown.key]);
  return (
    <>
      <div class="tabs" role="tablist" aria-label={label} onKeyDown={step}>
        {tabs.map((tab) => (
          <button
            key={tab.key}
            id={`${id}${tab.key}`}
            type="button"
            role="tab"
            aria-selected={tab === shown}
            aria-controls={`${id}panel`}
            tabIndex={tab === shown ? 0 : -1}
            onClick={() => pick(tab)}
          >
            {tab.label}
          </button>
        ))}
      </div>
      <div class="panel" role="tabpanel" id={`${id}panel`} aria-labelledby={`${id}${shown.key}`}>
        {shown.view()}
      </div>
    </>
  );
}
