/**
 * The keyboard: what a key does, and the list of all that do something now.
 *
 * Rule: keys are the shown page's only, never act while the reader writes in a field, and
 * every one of them stands in the list that `?` opens.
 */

import { signal } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";
import { Dialog } from "../pieces/dialog";

/** A key as the browser names it ("j", "Escape", "?"), or two pressed in turn ("g j"). */
export interface Key {
  key: string;
  does: string;
  act: () => void;
}

const sets = signal<{ title: string; keys: Key[] }[]>([]);
const listed = signal(false);
let before = "";

/** Lends keys to what is drawn, for as long as it is. `title` stands over them in the list. */
export function useKeys(title: string, keys: Key[]): void {
  useLayoutEffect(() => {
    const set = { title, keys };
    sets.value = [...sets.peek(), set];
    return () => (sets.value = sets.peek().filter((one) => one !== set));
  });
}

/** Begins to listen to the keyboard. */
export function startKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
    const target = event.target as HTMLElement;
    if (target.matches("input, select, textarea, [contenteditable]") || target.closest("dialog")) return;
    const pressed = `${before} ${event.key}`;
    before = "";
    // What was lent last lies on top.
    const all = sets.peek().flatMap(({ keys }) => keys).reverse();
    const found = all.find(({ key }) => key === pressed) ?? all.find(({ key }) => key === event.key);
    if (found) {
      event.preventDefault();
      found.act();
    } else if (all.some(({ key }) => key.startsWith(`${event.key} `))) before = event.key;
  });
}

export const listKeys = () => (listed.value = true);

/** The list of keys, when it is asked for. */
export function KeyList() {
  if (!listed.value) return null;
  return (
    <Dialog title="Keys" onClose={() => (listed.value = false)}>
      {sets.value
        .filter(({ keys }) => keys.length > 0)
        .map(({ title, keys }) => (
          <section class="key-set" key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(({ key, does }) => (
                <div key={key}>
                  <dt>
                    {key.split(" ").map((one) => (
                      <kbd key={one}>{one}</kbd>
                    ))}
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
    </Dialog>
  );
}
