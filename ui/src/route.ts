/** Which page this is, and the choices kept in its address. Names are percent-encoded once. */

export type Route = { page: "jobs" } | { page: "job"; name: string } | { page: "unknown" };

/** The page at `path`, where `base` is the path of the dashboard itself, ending in a slash. */
export function routeOf(path: string, base: string): Route {
  const rest = path.startsWith(base) ? path.slice(base.length) : "";
  if (rest === "" || rest === "index.html") return { page: "jobs" };
  if (!rest.startsWith("jobs/") || rest === "jobs/") return { page: "unknown" };
  try {
    return { page: "job", name: decodeURIComponent(rest.slice("jobs/".length)) };
  } catch {
    return { page: "unknown" };
  }
}

export const LASTS = [10, 25, 50, 100] as const;
export const DEFAULT_LAST = 25;
export const MOST = 100;

/** How many executions to show: one of `LASTS`, whatever the address says. */
export function lastOf(query: string): number {
  const wanted = Number(new URLSearchParams(query).get("last"));
  return LASTS.find((last) => last === wanted) ?? DEFAULT_LAST;
}

/** `query` with `key` set to `value`, or without it if null; empty or beginning with "?". */
export function withChoice(query: string, key: string, value: string | null): string {
  const choices = new URLSearchParams(query);
  if (value === null) choices.delete(key);
  else choices.set(key, value);
  const text = choices.toString();
  return text && `?${text}`;
}

/** The address of a job's page, relative to the dashboard. */
export function jobHref(name: string, choices: Record<string, string> = {}): string {
  const query = new URLSearchParams(choices).toString();
  return `./jobs/${encodeURIComponent(name)}${query && `?${query}`}`;
}
