/** The number of executions shown, kept in the URL. */

import { choose, chosen } from "../app/router";

const LASTS = [10, 25, 50, 100] as const;
const STANDARD = 25;

/** The number in the URL if it is one of `LASTS`, else the default. */
export function last(): number {
  const wanted = Number(chosen("last"));
  return LASTS.find((count) => count === wanted) ?? STANDARD;
}

export function LastSelector({ onChange }: { onChange: () => void }) {
  return (
    <label class="choice">
      Last{" "}
      <select
        value={last()}
        onChange={(event) => {
          const count = Number(event.currentTarget.value);
          choose({ last: count === STANDARD ? null : String(count) });
          onChange();
        }}
      >
        {LASTS.map((count) => (
          <option key={count} value={count}>
            {count}
          </option>
        ))}
      </select>{" "}
      executions
    </label>
  );
}
