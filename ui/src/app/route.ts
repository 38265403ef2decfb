/**
 * The routes of pages, and their URLs. Pure.
 *
 * Rule: a name is a percent-encoded path segment, so it may contain any character. Choices on a page
 * are in the query.
 */

export type Route =
  | { page: "jobs" }
  | { page: "job"; name: string }
  | { page: "execution"; id: string }
  | { page: "now" }
  | { page: "system" }
  | { page: "unknown" };

/** The page at `path`, where `base` is the path of the dashboard itself, ending in a slash. */
export function routeOf(path: string, base: string): Route {
  const rest = path.startsWith(base) ? path.slice(base.length) : "?";
  if (rest === "" || rest === "index.html") return { page: "jobs" };
  if (rest === "now" || rest === "system") return { page: rest };
  const [, place, encoded] = /^(jobs|executions)\/(.+)$/s.exec(rest) ?? [];
  try {
    if (place === "jobs") return { page: "job", name: decodeURIComponent(encoded!) };
    if (place === "executions") return { page: "execution", id: decodeURIComponent(encoded!) };
  } catch {
    // The encoding is invalid.
  }
  return { page: "unknown" };
}

/** `query` with each of `choices` set, or without it if null; empty or beginning with "?". */
export function withChoices(query: string, choices: Record<string, string | null>): string {
  const all = new URLSearchParams(query);
  for (const [key, value] of Object.entries(choices)) {
    if (value === null) all.delete(key);
    else all.set(key, value);
  }
  const text = all.toString();
  return text && `?${text}`;
}

type Choices = Record<string, string | null>;

/** The URL of the list of jobs. All these URLs are relative to the dashboard. */
export const jobsHref = (choices: Choices = {}): string => `./${withChoices("", choices)}`;

/** The URL of a job's page. */
export const jobHref = (name: string, choices: Choices = {}): string =>
  `./jobs/${encodeURIComponent(name)}${withChoices("", choices)}`;

/** The URL of an execution's page. */
export const executionHref = (id: string, choices: Choices = {}): string =>
  `./executions/${encodeURIComponent(id)}${withChoices("", choices)}`;
