/** The parameters a job is executed with, each beginning at its default. */

import { signal } from "@preact/signals";
import { asText } from "./parameters";
import { Name } from "./pieces";

/** What the reader wrote, by parameter; what is not here has its default. */
export const written = signal<Record<string, string>>({});

export function Parameters({ params }: { params: Record<string, unknown> }) {
  return (
    <details class="parameters">
      <summary>Parameters</summary>
      {Object.entries(params).map(([name, standard]) => (
        <label key={name}>
          <Name text={name} />
          <input
            value={written.value[name] ?? asText(standard)}
            onInput={(event) => (written.value = { ...written.peek(), [name]: event.currentTarget.value })}
          />
        </label>
      ))}
    </details>
  );
}
