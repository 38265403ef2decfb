/** Times, on the clock the reader chose. */

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { now, second } from "../app/clock";
import { zone } from "../app/settings";
import { countdown, inFull, local } from "../model/time";

/** The time zone of the job that what is below is about. */
export const JobZone = createContext<string | undefined>(undefined);

/** The zone that times are shown in, undefined for the browser's own. */
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

/** How long it is until a time, counted down by the second. */
export function Countdown({ to }: { to: string }) {
  const shown = useZone();
  return (
    <time dateTime={to} title={inFull(to, shown)}>
      {countdown(Date.parse(to) - second.value)}
    </time>
  );
}
