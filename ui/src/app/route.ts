/**
 * Which page an address names, and the addresses of pages. Pure.
 *
 * Rule: names are percent-encoded once, as whole path segments, so that a name may hold any
 * character; what a reader chose on a page stands in the query.
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
    // No text is encoded so.
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

/** The address of the list of jobs, relative to the dashboard, as all of these. */
export const jobsHref = (choices: Choices = {}): string => `./${withChoices("", choices)}`;

/** The address of a job's page. */
export const jobHref = (name: string, choices: Choices = {}): string =>
  `./jobs/${encodeURIComponent(name)}${withChoices("", choices)}`;

/** The address of an execution's page. */
export const executionHref = (id: string, choices: Choices = {}): string =>
  `./executions/${encodeURIComponent(id)}${withChoices("", choices)}`;
