/** Times in the time zone of the settings. */

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { now, second } from "../app/clock";
import { zone } from "../app/settings";
import { countdown, inFull, local } from "../model/time";

/** The time zone of the job shown below. */
export const JobZone = createContext<string | undefined>(undefined);

/** The time zone of displayed times; undefined for the browser's. */
export function useZone(): string | undefined {
  const job = useContext(JobZone);
  return zone.value === "utc" ? "UTC" : zone.value === "job" ? job : undefined;
}

export function Time({ at, none = "" }: { at: string | null | undefined; none?: string }) {
  const shown = useZone();
  if (!at) return <span class="quiet">{none}</span>;
  return (
    <time dateTime={at} title={inFull(at, shown)}>
      {local(at, new Date(now()), shown)}
    </time>
  );
}

/** A countdown to a time. */
export function Countdown({ to }: { to: string }) {
  const shown = useZone();
  return (
    <time dateTime={to} title={inFull(to, shown)}>
      {countdown(Date.parse(to) - second.value)}
    </time>
  );
}
