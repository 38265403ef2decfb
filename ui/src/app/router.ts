/**
 * Where the reader is: the address as signals, and the ways to change it.
 *
 * Rule: the address alone decides what is shown, so that a reload, a link and the browser's
 * buttons show the same. Links are plain `<a href>`; the pages they lead to are opened here
 * without loading the document again, which keeps the one stream and all that is known.
 */

import { batch, computed, signal, type ReadonlySignal } from "@preact/signals";
import { routeOf, withChoices, type Route } from "./route";

const base = new URL(document.baseURI).pathname;

const path = signal(location.pathname);
const query = signal(location.search);

/** The page shown. Equal routes are one value: a choice in the query draws no page anew. */
export const route: ReadonlySignal<Route> = computed(() => routeOf(path.value, base));

function look(): void {
  batch(() => {
    path.value = location.pathname;
    query.value = location.search;
  });
}

/** Opens the page at `href`, relative to the dashboard. */
export function go(href: string): void {
  history.pushState(null, "", new URL(href, document.baseURI));
  look();
  scrollTo(0, 0);
}

/** What was chosen under `key` in the address, null if nothing was. */
export function chosen(key: string): string | null {
  return new URLSearchParams(query.value).get(key);
}

/**
 * Keeps choices in the address; null takes one out. `step` makes an entry in the history, so
 * that the browser's back button undoes it; without, the entry there is changes.
 */
export function choose(choices: Record<string, string | null>, step = false): void {
  const address = location.pathname + withChoices(location.search, choices);
  if (address === location.pathname + location.search) return;
  history[step ? "pushState" : "replaceState"](null, "", address);
  look();
}

/** Begins to open links to the dashboard's own pages here, and to follow the browser's buttons. */
export function startRouter(): void {
  addEventListener("popstate", look);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
    const { origin, pathname, search, hash } = new URL(link.href);
    if (origin !== location.origin || hash || routeOf(pathname, base).page === "unknown") return;
    event.preventDefault();
    go(pathname + search);
  });
}
