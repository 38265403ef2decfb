/**
 * JSON whose numbers keep their digits.
 *
 * Rule: a number that a user or a user's program wrote is shown, copied and sent with its original
 * digits. JavaScript rounds numbers beyond 2^53 and does not distinguish 1.0 from 1.
 */

import { isLosslessNumber, LosslessNumber, parse, stringify } from "lossless-json";

/** A number that JavaScript cannot represent exactly; `toString` returns its digits. */
export type Digits = LosslessNumber;

export const isDigits: (value: unknown) => value is Digits = isLosslessNumber;

/** Parses JSON. Throws a SyntaxError, also for a duplicate key. */
export function read(text: string): unknown {
  return parse(text, null, (number) => (survives(number) ? Number(number) : new LosslessNumber(number)));
}

/** A value as JSON, in one line, or indented by `space`. */
export function write(value: unknown, space?: number): string {
  return stringify(value, null, space)!;
}

/**
 * Parses a response of the server. Numbers below the keys in `exact` keep their digits; without
 * `exact` all numbers do.
 */
export function readAnswer(text: string, exact?: ReadonlySet<string>): unknown {
  // Exact parsing takes ten times as long, and most responses do not need it.
  if (allSurvive(text)) return JSON.parse(text);
  return exact ? plain(read(text), exact) : read(text);
}

function plain(value: unknown, exact: ReadonlySet<string>): unknown {
  if (isDigits(value)) return Number(value.value);
  if (Array.isArray(value)) return value.map((one) => plain(one, exact));
  if (typeof value !== "object" || value === null) return value;
  // `fromEntries` creates an own property even for `__proto__`.
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, exact.has(key) ? one : plain(one, exact)]));
}

const survives = (number: string) => String(Number(number)) === number;

function allSurvive(text: string): boolean {
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g))
    if (!token.startsWith('"') && !survives(token)) return false;
  return true;
}
