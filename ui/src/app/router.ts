/**
 * The router: the URL as signals, and functions to change it.
 *
 * Rule: the URL determines what is shown, so that a reload, a link and the browser's buttons work.
 * Links are plain `<a href>`; the router opens their pages without reloading the document, which
 * keeps the stream and the loaded data.
 */

import { batch, computed, signal, type ReadonlySignal } from "@preact/signals";
import { routeOf, withChoices, type Route } from "./route";

const base = new URL(document.baseURI).pathname;

const path = signal(location.pathname);
const query = signal(location.search);

/** The current page. Equal routes are the same value, so a change of the query does not render the page again. */
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

/** The query parameter `key` of the URL, or null. */
export function chosen(key: string): string | null {
  return new URLSearchParams(query.value).get(key);
}

/**
 * Sets query parameters of the URL; null removes one. With `step` the browser's history gets a new
 * entry, so that the back button undoes the change; otherwise the current entry is replaced.
 */
export function choose(choices: Record<string, string | null>, step = false): void {
  const address = location.pathname + withChoices(location.search, choices);
  if (address === location.pathname + location.search) return;
  history[step ? "pushState" : "replaceState"](null, "", address);
  look();
}

/** TaskActions clicks on links to the dashboard's pages, and the browser's back and forward buttons. */
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
