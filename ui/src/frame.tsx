/** The frame around every page: navigation, settings and messages. */

import { signal, useSignalEffect } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { KeyList, listKeys, useKeys } from "./app/keys";
import { Notices } from "./app/notices";
import { go, route } from "./app/router";
import { following, theme, THEMES, zone, ZONES, type Theme, type Zone } from "./app/settings";
import { Confirmation } from "./components/dialog";
import { RunForm } from "./components/run";
import { connection } from "./api/stream";

const PLACES = [
  { page: "jobs", href: "./", label: "Jobs", key: "g j" },
  { page: "now", href: "./now", label: "Now", key: "g n" },
  { page: "system", href: "./system", label: "System", key: "g s" },
] as const;

const THEME_LABEL: Record<Theme, string> = { system: "System", light: "Light", dark: "Dark" };
const ZONE_LABEL: Record<Zone, string> = { local: "My time", job: "Job’s time", utc: "UTC" };
const CONNECTION_LABEL = { connecting: "connecting", live: "live", lost: "disconnected" };

export function Frame({ children }: { children: ComponentChildren }) {
  const main = useRef<HTMLElement>(null);
  useArrival(() => main.current?.focus({ preventScroll: true }));
  useKeys("Everywhere", [
    ...PLACES.map(({ href, label, key }) => ({ key, does: label, act: () => go(href) })),
    { key: "?", does: "Show keyboard shortcuts", act: listKeys },
    { key: "T", does: "Change theme", act: () => (theme.value = following(THEMES, theme.peek())) },
    { key: "Z", does: "Change time zone", act: () => (zone.value = following(ZONES, zone.peek())) },
  ]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          // The fragment must not change the route.
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to content
      </a>
      <header class="frame">
        <a class="brand" href="./">
          <img src="./favicon.svg" alt="" width="22" height="22" />
          <span>goflow</span>
        </a>
        <nav aria-label="Pages">
          {PLACES.map(({ page, href, label }) => (
            <a key={page} href={href} aria-current={route.value.page === page ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <div class="settings">
          <span class="pulse" data-hears={connection.value} role="img" aria-label={CONNECTION_LABEL[connection.value]} title={CONNECTION_LABEL[connection.value]} />
          <Settings />
          <button type="button" class="icon" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick={listKeys}>
            ?
          </button>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {children}
      </main>
      <Title />
      <KeyList />
      <RunForm />
      <Confirmation />
      <Notices />
    </>
  );
}

/** Calls `arrive` after navigation, to move the focus to the top of the new page. */
function useArrival(arrive: () => void): void {
  const first = useRef(true);
  useSignalEffect(() => {
    void route.value;
    if (!first.current) requestAnimationFrame(arrive);
    first.current = false;
  });
}

const title = signal("");

/** Announces the title of the page to screen readers when it changes. */
function Title() {
  useEffect(() => {
    const watch = new MutationObserver(() => (title.value = document.title));
    watch.observe(document.querySelector("title")!, { childList: true });
    return () => watch.disconnect();
  }, []);
  return (
    <p class="visually-hidden" role="status" data-title>
      {title.value}
    </p>
  );
}

/** The settings: a popover below its button. */
function Settings() {
  return (
    <>
      <button type="button" class="icon" aria-label="Settings" title="Settings" popovertarget="settings">
        <svg viewBox="0 0 12 12" aria-hidden="true">
          <path d="M1.5 3.5h4M9 3.5h1.5M1.5 8.5H3M6.5 8.5h4M7.2 3.5a1.4 1.4 0 1 0 0-.01M4.7 8.5a1.4 1.4 0 1 0 0-.01" />
        </svg>
      </button>
      <div id="settings" popover class="settings-sheet">
        <Choice label="Times" cell={zone} values={ZONES} names={ZONE_LABEL} />
        <Choice label="Colours" cell={theme} values={THEMES} names={THEME_LABEL} />
      </div>
    </>
  );
}

function Choice<Value extends string>(props: {
  label: string;
  cell: { value: Value };
  values: readonly Value[];
  names: Record<Value, string>;
}) {
  return (
    <label>
      {props.label}
      <select
        value={props.cell.value}
        onChange={(event) => (props.cell.value = event.currentTarget.value as Value)}
      >
        {props.values.map((value) => (
          <option key={value} value={value}>
            {props.names[value]}
          </option>
        ))}
      </select>
    </label>
  );
}
