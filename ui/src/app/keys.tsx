/**
 * Keyboard shortcuts, and the list of those that are active.
 *
 * Rule: shortcuts belong to the current page, do nothing while the user types in a field, and all
 * of them are in the list that `?` opens.
 */

import { signal } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";
import { Dialog } from "../components/dialog";

/** A key by its name in the browser ("j", "Escape", "?"), or two keys in sequence ("g j"). */
export interface Key {
  key: string;
  does: string;
  act: () => void;
}

const sets = signal<{ title: string; keys: Key[] }[]>([]);
const listed = signal(false);
let before = "";

/** Registers keys while the component is mounted. `title` is their heading in the list. */
export function useKeys(title: string, keys: Key[]): void {
  useLayoutEffect(() => {
    const set = { title, keys };
    sets.value = [...sets.peek(), set];
    return () => (sets.value = sets.peek().filter((one) => one !== set));
  });
}

/** Starts to listen to the keyboard. */
export function startKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
    const target = event.target as HTMLElement;
    if (target.matches("input, select, textarea, [contenteditable]") || target.closest("dialog")) return;
    const pressed = `${before} ${event.key}`;
    before = "";
    // The keys registered last take precedence.
    const all = sets.peek().flatMap(({ keys }) => keys).reverse();
    const found = all.find(({ key }) => key === pressed) ?? all.find(({ key }) => key === event.key);
    if (found) {
      event.preventDefault();
      found.act();
    } else if (all.some(({ key }) => key.startsWith(`${event.key} `))) before = event.key;
  });
}

export const listKeys = () => (listed.value = true);

/** The list of keys, if it is open. */
export function KeyList() {
  if (!listed.value) return null;
  return (
    <Dialog title="Keyboard shortcuts" onClose={() => (listed.value = false)}>
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
