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
  /** The label of the confirm button. */
  action: string;
  answer: (yes: boolean) => void;
}

const confirmation = signal<Question | null>(null);

/** Asks for confirmation; true if the user confirms. */
export function confirmed(title: string, text: string, action: string): Promise<boolean> {
  confirmation.peek()?.answer(false);
  return new Promise((resolve) => {
    confirmation.value = {
      title,
      text,
      action,
      answer: (yes) => {
        confirmation.value = null;
        resolve(yes);
      },
    };
  });
}

/** The open confirmation, if any. */
export function Confirmation() {
  const current = confirmation.value;
  if (!current) return null;
  return (
    <Dialog title={current.title} onClose={() => current.answer(false)}>
      <p>{current.text}</p>
      <div class="answers">
        <button type="button" class="button" onClick={() => current.answer(false)}>
          Go back
        </button>
        <button type="button" class="button grave" autoFocus onClick={() => current.answer(true)}>
          {current.action}
        </button>
      </div>
    </Dialog>
  );
}
