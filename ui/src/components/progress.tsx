/** The progress that a running task or item reports. */

import type { Bar } from "../api/schema";
import { doneText, shareOf } from "../model/progress";
import { Name } from "./name";

/** A bar, which is not filled if the total is unknown, with the numbers and the text. */
export function Progress({ bar, of }: { bar: Bar; of: string }) {
  const share = shareOf(bar);
  return (
    <span class="progress-part">
      {share !== null && (
        <span
          class="progress"
          role="progressbar"
          aria-label={`Progress of ${of}`}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.floor(share * 100)}
        >
          <span style={{ width: `${share * 100}%` }} />
        </span>
      )}
      <span class="told">{doneText(bar)}</span>
      {bar.text && (
        <span class="quiet">
          <Name text={bar.text} />
        </span>
      )}
    </span>
  );
}
