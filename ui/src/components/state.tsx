/** The display of a state: a sign, a word and a colour. Colour is never the only difference. */

import type { ReadonlySignal } from "@preact/signals";
import { LABEL, SIGN, tally, type State } from "../model/states";

/** The sign of a state in the current text colour. */
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
 * A state mark, as a link or a button. Only it renders again when its cell changes. The Tab key stops
 * only at marks that are `focusable`.
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

/** The states of a row in words, for screen readers. */
export function Tally({ cells }: { cells: ReadonlySignal<State>[] }) {
  return <span class="visually-hidden">{tally(cells.map((cell) => cell.value))}</span>;
}
