/** The shared state of an execution, and the actions that changed it, newest first. */

import { useEffect, useState } from "preact/hooks";
import { resultText } from "../../model/failure";
import { bytes } from "../../model/series";
import { write } from "../../model/json";
import { Copy } from "../../components/copy";
import { Name } from "../../components/name";
import { Time } from "../../components/time";
import { getState, type SharedState as Held, type StateChange } from "../../api/client";

const PAGE = 20; // changes loaded at once

/** `dispatched` is the number of actions so far; the newest are loaded again when it grows. */
export function SharedState({ id, dispatched }: { id: string; dispatched: number }) {
  const [held, hold] = useState<Held | null>(null);
  const [earlier, setEarlier] = useState<StateChange[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [failure, fail] = useState("");
  const load = async (cursor: string | null) => {
    try {
      const page = await getState(id, cursor, PAGE);
      if (cursor === null) {
        hold(page);
        setEarlier([]);
      } else setEarlier((before) => [...before, ...page.changes]);
      setNext(page.next);
      fail("");
    } catch (error) {
      fail((error as Error).message);
    }
  };
  useEffect(() => {
    if (dispatched > 0) void load(null);
  }, [id, dispatched]);
  if (dispatched === 0) return null;
  return (
    <section class="card shared-state" aria-label="Shared state">
      <div class="bar">
        <h2>Shared state</h2>
        {held && held.state !== null && <Copy text={resultText(held.state)} what="the state" />}
        <span class="quiet">
          {dispatched} {dispatched === 1 ? "action" : "actions"}
        </span>
      </div>
      {failure && (
        <p class="failure" role="alert">
          The state could not be loaded: {failure}.
        </p>
      )}
      {held && <pre tabIndex={0}>{shownState(held.state, held.state_bytes, 2)}</pre>}
      {held && (
        <div class="actions-part" tabIndex={0} role="group" aria-label="Actions">
          <table>
            <thead>
              <tr>
                <th>At</th>
                <th>Task</th>
                <th>Action</th>
                <th>State after it</th>
              </tr>
            </thead>
            <tbody>
              {[...held.changes, ...earlier].map((one) => (
                <tr key={one.number}>
                  <td>
                    <Time at={one.at} />
                  </td>
                  <td>
                    <Name text={one.task} />
                    {one.item !== undefined && <span class="quiet"> item {one.item}</span>}
                    {one.attempt > 1 && <span class="quiet"> attempt {one.attempt}</span>}
                  </td>
                  <td>
                    <code>{cut(write(one.action))}</code>
                  </td>
                  <td>
                    <code>{cut(shownState(one.state, one.state_bytes))}</code>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {next !== null && (
        <button type="button" class="button small" onClick={() => void load(next)}>
          Show earlier actions
        </button>
      )}
    </section>
  );
}

const LONGEST = 300; // characters of an action or a state in the table

const cut = (text: string) => (text.length <= LONGEST ? text : `${text.slice(0, LONGEST)}…`);

/** The state as JSON, or its size if it is too large to be kept with its action. */
function shownState(state: unknown, size: number, indent?: number): string {
  return state === null && size > "null".length ? `${bytes(size)}, too large to be shown` : write(state, indent);
}
