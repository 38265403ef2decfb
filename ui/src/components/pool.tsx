/** The name of a limit on running tasks. */

import type { Pool } from "../api/client";
import { Name } from "./name";

export function PoolName({ pool: { kind, name } }: { pool: Pick<Pool, "kind" | "name"> }) {
  if (kind === "all") return <span class="quiet">all tasks</span>;
  return (
    <span class="quiet">
      {kind === "job" ? "job" : "pool"} <Name text={name} />
    </span>
  );
}
