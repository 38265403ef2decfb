/** Why a task waits; of a running one also when it looks again. */

import type { Waiting } from "../api/client";
import { second } from "../app/clock";
import { nextLook } from "../model/waiting";
import { Countdown } from "./time";

export function Waits({ on }: { on: string | Waiting }) {
  if (typeof on === "string") return <>{on}</>;
  const next = new Date(nextLook(on, second.value)).toISOString();
  return (
    <>
      {on.why && `${on.why}; `}looks again <Countdown to={next} />
    </>
  );
}
