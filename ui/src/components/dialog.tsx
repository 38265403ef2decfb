/** Modal dialogs, and the confirmation of destructive actions. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

/** A dialog with a title. Escape, the close button and a click outside close it. */
export function Dialog(props: { title: ComponentChildren; wide?: boolean; onClose: () => void; children: ComponentChildren }) {
  const box = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    const before = document.activeElement;
    box.current!.showModal();
    box.current!.querySelector<HTMLElement>("form :is(input, select, textarea)")?.focus();
    return () => before instanceof HTMLElement && before.focus();
  }, []);
  return (
    <dialog
      ref={box}
      class={`dialog${props.wide ? " wide" : ""}`}
      aria-labelledby={title}
      onClose={props.onClose}
      onClick={(event) => event.target === box.current && props.onClose()}
    >
      <div class="sheet">
        <header class="bar">
          <h2 id={title}>{props.title}</h2>
          <button type="button" class="icon" aria-label="Close" onClick={props.onClose}>
            <svg viewBox="0 0 12 12" aria-hidden="true">
              <path d="M3 3l6 6M9 3l-6 6" />
            </svg>
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

interface Question {
  title: string;
  text: string;
  /** The labels of the buttons, the first one in focus. */
  actions: string[];
  /** Whether the first one is destructive. */
  grave: boolean;
  /** Called with the label of the button, or null for "Go back". */
  answer: (action: string | null) => void;
}

const confirmation = signal<Question | null>(null);

/** Asks for confirmation; true if the user confirms. */
export async function confirmed(title: string, text: string, action: string): Promise<boolean> {
  return (await asked(title, text, [action], true)) !== null;
}

/** Asks for one of several actions; null if the user goes back. */
export function decided<Action extends string>(title: string, text: string, actions: Action[]): Promise<Action | null> {
  return asked(title, text, actions, false) as Promise<Action | null>;
}

function asked(title: string, text: string, actions: string[], grave: boolean): Promise<string | null> {
  confirmation.peek()?.answer(null);
  return new Promise((resolve) => {
    confirmation.value = {
      title,
      text,
      actions,
      grave,
      answer: (action) => {
        confirmation.value = null;
        resolve(action);
      },
    };
  });
}

/** The open question, if any. */
export function Confirmation() {
  const current = confirmation.value;
  if (!current) return null;
  return (
    <Dialog title={current.title} onClose={() => current.answer(null)}>
      <p>{current.text}</p>
      <div class="answers">
        <button type="button" class="button" onClick={() => current.answer(null)}>
          Go back
        </button>
        {current.actions.map((action, place) => (
          <button
            type="button"
            class={current.grave ? "button grave" : `button${place ? "" : " main"}`}
            autoFocus={place === 0}
            key={action}
            onClick={() => current.answer(action)}
          >
            {action}
          </button>
        ))}
      </div>
    </Dialog>
  );
}
