/** What an attempt wrote, as text, asked for again while the attempt runs. */

import { useEffect, useState } from "preact/hooks";
import * as api from "../../wire/api";
import { isFinished } from "../../model/states";

const AGAIN = 1000; // milliseconds

export function Log(props: { id: string; task: string; attempts: api.Attempt[]; about: string }) {
  const { id, task, attempts } = props;
  const [chosen, choose] = useState<number | null>(null);
  const shown = attempts.find(({ attempt }) => attempt === chosen) ?? attempts[attempts.length - 1]!;
  const [text, setText] = useState<string | null>(null);
  const [failure, setFailure] = useState("");
  const running = !isFinished(shown.state);

  useEffect(() => {
    let left = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async () => {
      try {
        const { lines } = await api.getLines(id, task, shown.attempt, 0, 10_000);
        const written = lines.join("\n");
        if (left) return;
        setText(written);
        setFailure("");
      } catch (error) {
        if (left) return;
        setFailure((error as Error).message);
      }
      if (running) timer = setTimeout(() => void read(), AGAIN);
    };
    void read();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [id, task, shown.attempt, running]);

  return (
    <>
      <div class="bar">
        <h3>Log</h3>
        {attempts.length > 1 && (
          <label class="choice">
            of attempt{" "}
            <select
              value={shown.attempt}
              onChange={(event) => {
                setText(null);
                choose(Number(event.currentTarget.value));
              }}
            >
              {attempts.map(({ attempt }) => (
                <option key={attempt} value={attempt}>
                  {attempt}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
      {failure && <p class="failure">The log could not be read: {failure}.</p>}
      <pre class="log" aria-label={`Log of ${props.about}`} tabIndex={0}>
        {text === null ? "…" : text || "Nothing was written."}
      </pre>
    </>
  );
}
