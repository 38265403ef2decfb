/** Backfill: shows which past due times would run, then runs them. */

import { useState } from "preact/hooks";
import { announce, quoted } from "../../app/notices";
import { zone } from "../../app/settings";
import { Dialog } from "../../components/dialog";
import { Time } from "../../components/time";
import * as api from "../../api/client";

const SHOWN = 8; // due times listed

export function Backfill({ job, onClose }: { job: string; onClose: () => void }) {
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [parallel, setParallel] = useState("1");
  const [found, setFound] = useState<api.Backfilled[] | null>(null);
  const [failure, fail] = useState("");
  const utc = zone.value === "utc";

  const ask = async (dry: boolean) => {
    fail("");
    try {
      const { executions } = await api.backfill(job, {
        from: instantOf(from, utc),
        to: instantOf(to, utc),
        parallel: Number(parallel),
        dry_run: dry,
      });
      if (dry) setFound(executions);
      else {
        const made = executions.filter(({ created }) => created).length;
        announce(`${quoted(job)}: ${made} ${made === 1 ? "execution was" : "executions were"} submitted, ${parallel} at a time.`);
        onClose();
      }
    } catch (error) {
      fail((error as Error).message);
    }
  };
  const edit = (set: (text: string) => void) => (event: { currentTarget: { value: string } }) => {
    setFound(null);
    set(event.currentTarget.value);
  };
  const missing = found?.filter(({ execution }) => execution === null) ?? [];
  return (
    <Dialog title="Backfill past due times" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void ask(found === null || missing.length === 0);
        }}
      >
        <p class="quiet none">
          Runs the job for each due time in the range that has not run yet. The end is exclusive. Times are in{" "}
          {utc ? "UTC" : "your time zone"}.
        </p>
        <div class="fields">
          <label>
            <span>From</span>
            <input type="datetime-local" required value={from} onInput={edit(setFrom)} />
          </label>
          <label>
            <span>To</span>
            <input type="datetime-local" required value={to} onInput={edit(setTo)} />
          </label>
          <label>
            <span>In parallel</span>
            <input type="number" min="1" max="100" required value={parallel} onInput={edit(setParallel)} />
          </label>
        </div>
        {failure && (
          <p class="failure" role="alert">
            Nothing was submitted: {failure}
          </p>
        )}
        {found && (
          <div class="none" role="status">
            {found.length} due times, {found.length - missing.length} of which have already run.
            <ul class="list">
              {missing.slice(0, SHOWN).map(({ due }) => (
                <li key={due}>
                  <Time at={due} />
                </li>
              ))}
              {missing.length > SHOWN && <li>and {missing.length - SHOWN} more</li>}
            </ul>
          </div>
        )}
        <div class="answers">
          <button type="button" class="button" onClick={onClose}>
            Close
          </button>
          {found && missing.length > 0 ? (
            <button type="submit" class="button main">
              Run {missing.length}
            </button>
          ) : (
            <button type="submit" class="button">
              Preview
            </button>
          )}
        </div>
      </form>
    </Dialog>
  );
}

/** The value of a date-time field as an instant. */
function instantOf(written: string, utc: boolean): string {
  const date = new Date(utc ? `${written}Z` : written);
  if (Number.isNaN(date.getTime())) throw new Error("both times are required");
  return date.toISOString();
}
