/** A button that copies a text to the clipboard. */

import { announce } from "../app/notices";

export function Copy({ text, what }: { text: string; what: string }) {
  return (
    <button type="button" class="icon copy" aria-label={`Copy ${what}`} title={`Copy ${what}`} onClick={() => void copy(text, what)}>
      <svg viewBox="0 0 12 12" aria-hidden="true">
        <path d="M4.2 4.2h6.3v6.3H4.2zM7.8 4.2V1.5H1.5v6.3h2.7" />
      </svg>
    </button>
  );
}

async function copy(text: string, what: string): Promise<void> {
  try {
    // Browsers have the clipboard only for https and localhost.
    if (!("clipboard" in navigator)) throw new Error("the browser allows it only on secure pages");
    await navigator.clipboard.writeText(text);
    announce(`Copied ${what}.`);
  } catch (error) {
    announce(`Could not copy ${what}: ${(error as Error).message}`, { bad: true });
  }
}
