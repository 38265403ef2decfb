/** What a reader writes for a job's parameters, and the values that makes. */

/** A default as it stands in its field: text as it is, all else as JSON. */
export function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * The values to submit: those that were changed. Where the default is text, what was
 * written is text; elsewhere it is JSON.
 *
 * Throws an Error that names the parameter if it is not.
 */
export function parsed(defaults: Record<string, unknown>, texts: Record<string, string>): Record<string, unknown> {
  const values: [string, unknown][] = [];
  for (const [name, text] of Object.entries(texts)) {
    const standard = defaults[name];
    if (text === asText(standard)) continue;
    if (typeof standard === "string") values.push([name, text]);
    else
      try {
        values.push([name, JSON.parse(text)]);
      } catch {
        throw new Error(`parameter ${name} must be JSON, not ${text || "empty"}`);
      }
  }
  return Object.fromEntries(values);
}
