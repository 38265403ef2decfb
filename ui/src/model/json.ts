/**
 * JSON whose numbers keep their digits.
 *
 * Rule: a number that a user's program or a reader wrote is shown, copied and sent again with the
 * digits it was written with. JavaScript's numbers round beyond 2^53 and do not tell 1.0 from 1.
 */

import { isLosslessNumber, LosslessNumber, parse, stringify } from "lossless-json";

/** A number that JavaScript's would change; `toString` gives its digits. */
export type Digits = LosslessNumber;

export const isDigits: (value: unknown) => value is Digits = isLosslessNumber;

/** A value from JSON. Throws a SyntaxError, for a name that an object has twice too. */
export function read(text: string): unknown {
  return parse(text, null, (number) => (survives(number) ? Number(number) : new LosslessNumber(number)));
}

/** A value as JSON, on one line, or on lines of their own indented by `space`. */
export function write(value: unknown, space?: number): string {
  return stringify(value, null, space)!;
}

/**
 * An answer of the server's: what stands below the keys in `exact` keeps its digits, and all other
 * numbers are JavaScript's. Without `exact` all of them keep their digits.
 */
export function readAnswer(text: string, exact?: ReadonlySet<string>): unknown {
  // Keeping digits takes ten times as long, and most answers hold no number that needs it.
  if (allSurvive(text)) return JSON.parse(text);
  return exact ? plain(read(text), exact) : read(text);
}

function plain(value: unknown, exact: ReadonlySet<string>): unknown {
  if (isDigits(value)) return Number(value.value);
  if (Array.isArray(value)) return value.map((one) => plain(one, exact));
  if (typeof value !== "object" || value === null) return value;
  // `fromEntries` makes an own property of any name, `__proto__` included.
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, exact.has(key) ? one : plain(one, exact)]));
}

const survives = (number: string) => String(Number(number)) === number;

function allSurvive(text: string): boolean {
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g))
    if (!token.startsWith('"') && !survives(token)) return false;
  return true;
}
