/** How a state looks: a sign and a word, and a colour that is never alone. */

import type { ReadonlySignal } from "@preact/signals";
import { LABEL, SIGN, tally, type State } from "../model/states";

/** The sign of a state, drawn in the colour of the text around it. */
export function Sign({ state }: { state: State }) {
  return (
    <svg class="sign" viewBox="0 0 12 12" aria-hidden="true">
      <path d={SIGN[state]} />
    </svg>
  );
}

/** A state in words, with its sign. */
export function StateLabel({ state }: { state: State }) {
  return (
    <span class={`state ${state}`} data-state={state}>
      <span class={`mark ${state}`}>
        <Sign state={state} />
      </span>
      {LABEL[state]}
    </span>
  );
}

/**
 * One state mark, a link or a button. Only this is drawn again when its cell changes. Marks
 * are many: the Tab key stops only at those that are `focusable`.
 */
export function Mark(props: {
  cell: ReadonlySignal<State>;
  about: string;
  href?: string;
  onPick?: () => void;
  picked?: ReadonlySignal<boolean>;
  focusable?: boolean;
}) {
  const state = props.cell.value;
  const title = `${props.about}: ${LABEL[state]}`;
  const common = {
    class: `mark ${state}${props.picked?.value ? " picked" : ""}`,
    "data-state": state,
    title,
    tabIndex: props.focusable ? 0 : -1,
    "aria-label": title,
  };
  if (props.href)
    return (
      <a {...common} href={props.href}>
        <Sign state={state} />
      </a>
    );
  return (
    <button {...common} type="button" onClick={props.onPick}>
      <Sign state={state} />
    </button>
  );
}

/** What the marks of a row say, in words, for those who do not see them. */
export function Tally({ cells }: { cells: ReadonlySignal<State>[] }) {
  return <span class="unseen">{tally(cells.map((cell) => cell.value))}</span>;
}
