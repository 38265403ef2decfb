/**
 * A job's parameters as form fields, and the values of a filled form.
 *
 * Rule: unchanged defaults are not sent, so that a later change of a default applies. A group is
 * one value: if any field in it was changed, all of it is sent.
 */

import { isDigits, read, write, type Digits } from "./json";

/** The part of JSON Schema that the form supports; the server checks the rest. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  enum?: unknown[];
  const?: unknown;
  format?: string;
  minimum?: number | Digits;
  maximum?: number | Digits;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  default?: unknown;
  anyOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export type Kind = "text" | "number" | "switch" | "choice" | "date" | "json" | "group" | "whole";

export interface Field {
  /** Unique in the form; the name for a top-level field. */
  id: string;
  name: string;
  kind: Kind;
  description: string;
  /** The constraints in words: "a whole number, 1 to 1000". */
  rule: string;
  required: boolean;
  /** Whether an empty field stands for null. */
  nullable: boolean;
  /** The options, as JSON. */
  choices: string[];
  /** The initial text. */
  text: string;
  /** The default, as `text`; null if there is none. */
  standard: string | null;
  /** The fields of a group. */
  fields: Field[];
}

/** A value as the text of a field: text as it is, other values as JSON. */
export function asText(value: unknown, kind: Kind = typeof value === "string" ? "text" : "json"): string {
  if (value === null && (kind === "text" || kind === "date" || kind === "number")) return "";
  return typeof value === "string" && kind !== "json" && kind !== "choice" ? value : write(value);
}

type Values = Record<string, unknown>;

/**
 * The fields for a job's parameters, with the `given` values or the defaults. A job that accepts
 * any parameters has one JSON field for all.
 */
export function fieldsOf(schema: Schema | null | undefined, defaults: Values | null, given: Values = {}): Field[] {
  if (!schema && defaults === null) return [wholeOf(given)];
  return inside(schema ?? {}, schema ?? {}, defaults ?? {}, given, "");
}

function wholeOf(given: Values): Field {
  return {
    id: "",
    name: "parameters",
    kind: "whole",
    description: "Any names and values, as a JSON object",
    rule: "",
    required: false,
    nullable: false,
    choices: [],
    text: write(given, 2),
    standard: null,
    fields: [],
  };
}

/** The fields of an object; `within` is the prefix of their ids. */
function inside(schema: Schema, root: Schema, defaults: Values, given: Values, within: string): Field[] {
  const whole = resolved(schema, root);
  const described = new Map(Object.entries(whole.properties ?? {}));
  const standards = new Map(Object.entries(defaults));
  const beginning = new Map(Object.entries(given));
  const names = new Set([...described.keys(), ...standards.keys(), ...beginning.keys()]);
  return [...names].map((name) => {
    const { schema: one, nullable } = plain(described.get(name) ?? {}, root);
    const held = standards.has(name) ? standards.get(name) : one.default;
    const begins = beginning.has(name) ? beginning.get(name) : held;
    const kind = kindOf(one, begins, nullable);
    const standard = held === undefined ? null : asText(held, kind);
    const id = within + name;
    const choices = one.enum ?? (kind === "choice" ? [true, false] : []);
    return {
      id,
      name,
      kind,
      description: one.description ?? "",
      rule: ruleOf(one, root),
      required: whole.required?.includes(name) ?? false,
      nullable,
      choices: [...choices, ...(nullable ? [null] : [])].map((value) => write(value)),
      text: begins === undefined ? (kind === "switch" ? "false" : "") : asText(begins, kind),
      standard,
      // Names of parameters have no line breaks, so ids are unique.
      fields: kind === "group" ? inside(one, root, {}, isObject(begins) ? begins : {}, `${id}\n`) : [],
    };
  });
}

const isObject = (value: unknown): value is Values =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !isDigits(value);

function resolved(schema: Schema, root: Schema): Schema {
  const found = schema.$ref ? root.$defs?.[schema.$ref.replace(/^#\/\$defs\//, "")] : undefined;
  return found ? { ...resolved(found, root), ...schema } : schema;
}

/** The schema of a value without null. */
function plain(schema: Schema, root: Schema): { schema: Schema; nullable: boolean } {
  const whole = resolved(schema, root);
  const others = whole.anyOf?.filter(({ type }) => type !== "null");
  const nullable = others !== undefined && others.length < whole.anyOf!.length;
  if (others?.length === 1) return { schema: { ...resolved(others[0]!, root), ...whole }, nullable };
  if (whole.enum?.includes(null)) return { schema: { ...whole, enum: whole.enum.filter((one) => one !== null) }, nullable: true };
  return { schema: whole, nullable };
}

function kindOf(schema: Schema, begins: unknown, nullable: boolean): Kind {
  if (schema.enum) return "choice";
  if (schema.anyOf && schema.type === undefined) return "json";
  switch (schema.type ?? (isDigits(begins) ? "number" : typeof begins)) {
    case "string":
      return schema.format === "date" ? "date" : "text";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return nullable ? "choice" : "switch";
    case "object":
      return schema.properties ? "group" : "json";
    default:
      return "json";
  }
}

const TYPES: Record<string, string> = {
  string: "text",
  integer: "a whole number",
  number: "a number",
  boolean: "yes or no",
  array: "a list",
  object: "an object",
  null: "nothing",
};

const FORMATS: Record<string, string> = { date: "a date", "date-time": "a time, as 2026-11-21T14:05:00Z" };

/** The constraints of a schema in words; empty if there are none. */
export function ruleOf(schema: Schema, root: Schema): string {
  const { schema: one, nullable } = plain(schema, root);
  return [typeOf(one, root), rangeOf(one), nullable ? "or nothing" : ""].filter(Boolean).join(", ");
}

function typeOf(schema: Schema, root: Schema): string {
  if (schema.enum) return `one of ${schema.enum.map((value) => (typeof value === "string" ? value : write(value))).join(", ")}`;
  if (schema.format && FORMATS[schema.format]) return FORMATS[schema.format]!;
  const type = typeof schema.type === "string" ? TYPES[schema.type] : undefined;
  if (schema.type === "array" && schema.items) return `a list, each ${ruleOf(schema.items, root)}`;
  if (type) return type;
  return (schema.anyOf ?? []).map((one) => ruleOf(one, root)).filter(Boolean).join(" or ");
}

function rangeOf({ minimum, maximum, minLength, maxLength, pattern }: Schema): string {
  const [low, high] = [minimum ?? minLength, maximum ?? maxLength];
  const unit = minLength ?? maxLength ? " characters" : "";
  const range =
    low !== undefined && high !== undefined
      ? `${low} to ${high}${unit}`
      : low !== undefined
        ? `at least ${low}${unit}`
        : high !== undefined
          ? `at most ${high}${unit}`
          : "";
  return [range, pattern ? `as ${pattern}` : ""].filter(Boolean).join(", ");
}

/**
 * The values to submit, without unchanged defaults. Fields other than text are parsed as JSON.
 *
 * Throws a `Mistaken` with every invalid parameter.
 */
export function valuesOf(fields: Field[], written: ReadonlyMap<string, string>): Values {
  const values: [string, unknown][] = [];
  const mistakes = new Map<string, string>();
  for (const field of fields) {
    if (field.kind === "whole") return wholeWritten(written.get(field.id) ?? field.text);
    const value = valueOf(field, written, field.standard, mistakes);
    if (value !== undefined) values.push([field.name, value]);
  }
  if (mistakes.size > 0) throw new Mistaken(mistakes);
  return Object.fromEntries(values);
}

/** Values that do not fit: the reason by the id of the field. */
export class Mistaken extends Error {
  constructor(readonly mistakes: ReadonlyMap<string, string>) {
    super([...mistakes.values()].join("; "));
  }
}

/** Errors by the server, such as of `params.window.end`, by the id of the innermost field; "" for others. */
export function mistakesOf(errors: readonly { field: string; message: string }[], fields: Field[]): Map<string, string> {
  const ids = allIds(fields);
  const found = new Map<string, string>();
  for (const { field, message } of errors) {
    const path = field.replace(/^params\.?/, "");
    const at = path.replaceAll(".", "\n");
    const id = ids.filter((one) => one === path || at === one || at.startsWith(`${one}\n`) || at.startsWith(`${one}[`)).at(-1) ?? "";
    const rest = id === "" && path ? `${path}: ${message}` : message;
    found.set(id, found.has(id) ? `${found.get(id)}; ${rest}` : rest);
  }
  return found;
}

/** The ids of fields, each group before its fields. */
const allIds = (fields: Field[]): string[] => fields.flatMap((field) => [field.id, ...allIds(field.fields)]).filter(Boolean);

function wholeWritten(text: string): Values {
  let value: unknown;
  try {
    value = read(text.trim() || "{}");
  } catch (error) {
    throw new Error(`the parameters must be JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new Error("the parameters must be a JSON object");
  return value;
}

/** The value of a field; undefined if it is the default or empty. */
function valueOf(field: Field, written: ReadonlyMap<string, string>, standard: string | null, mistakes: Map<string, string>): unknown {
  const { name, kind, required, nullable } = field;
  if (kind === "group") return groupOf(field, written, mistakes);
  const text = written.get(field.id) ?? field.text;
  if (text === standard) return undefined;
  if (text === "") {
    if (nullable && standard !== null) return null;
    if (kind === "text" && (standard !== null || required)) return "";
    if (required) mistakes.set(field.id, `parameter ${name} is required`);
    if (required || standard === null) return undefined;
  }
  if (kind === "text" || kind === "date") return text;
  try {
    return read(text);
  } catch (error) {
    const plain = kind === "number" || !text;
    const reason = plain ? `${kind === "number" ? "a number" : "JSON"}, not ${text || "empty"}` : `JSON: ${(error as Error).message}`;
    mistakes.set(field.id, `parameter ${name} must be ${reason}`);
    return undefined;
  }
}

function groupOf({ id, fields, required, text, standard }: Field, written: ReadonlyMap<string, string>, mistakes: Map<string, string>): unknown {
  const touched = [...written.keys()].some((key) => key.startsWith(`${id}\n`));
  if (!touched && !required && text === (standard ?? "")) return undefined;
  const values = fields.map((field) => [field.name, valueOf(field, written, null, mistakes)] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}
