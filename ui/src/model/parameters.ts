/**
 * A job's parameters as fields of a form, and the values that what is written in them makes.
 *
 * Rule: what is left at its default is not sent, so that a default changed later holds.
 */

/** As much of JSON Schema as a form shows; the server checks the rest. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  enum?: unknown[];
  const?: unknown;
  format?: string;
  minimum?: number;
  maximum?: number;
  pattern?: string;
  default?: unknown;
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export type Kind = "text" | "number" | "switch" | "choice" | "json";

export interface Field {
  name: string;
  kind: Kind;
  description: string;
  required: boolean;
  /** What may be chosen, as JSON. */
  choices: string[];
  /** What stands in it before anything is written. */
  text: string;
  /** What it holds unless something is written, as `text`; null if there is no such thing. */
  standard: string | null;
}

/** A value as it stands in a field of a kind: text as it is, all else as JSON. */
export function asText(value: unknown, kind: Kind = typeof value === "string" ? "text" : "json"): string {
  return typeof value === "string" && kind !== "json" && kind !== "choice" ? value : JSON.stringify(value);
}

/** The fields for a job's parameters, each with what is `given` in it, or else its default. */
export function fieldsOf(
  schema: Schema | null,
  defaults: Record<string, unknown> | null,
  given: Record<string, unknown> = {},
): Field[] {
  const whole = schema === null ? {} : resolved(schema, schema);
  const described = new Map(Object.entries(whole.properties ?? {}));
  const standards = new Map(Object.entries(defaults ?? {}));
  const beginning = new Map(Object.entries(given));
  const names = new Set([...described.keys(), ...standards.keys(), ...beginning.keys()]);
  return [...names].map((name) => {
    const one = resolved(described.get(name) ?? {}, schema ?? {});
    const held = standards.has(name) ? standards.get(name) : one.default;
    const kind = kindOf(one, held ?? beginning.get(name));
    const standard = held === undefined ? null : asText(held, kind);
    return {
      name,
      kind,
      description: one.description ?? "",
      required: whole.required?.includes(name) ?? false,
      choices: (one.enum ?? []).map((value) => JSON.stringify(value)),
      text: beginning.has(name) ? asText(beginning.get(name), kind) : (standard ?? (kind === "switch" ? "false" : "")),
      standard,
    };
  });
}

function resolved(schema: Schema, root: Schema): Schema {
  const found = schema.$ref ? root.$defs?.[schema.$ref.replace(/^#\/\$defs\//, "")] : undefined;
  return found ? { ...resolved(found, root), ...schema } : schema;
}

function kindOf(schema: Schema, standard: unknown): Kind {
  if (schema.enum) return "choice";
  switch (schema.type ?? typeof standard) {
    case "string":
      return "text";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "switch";
    default:
      return "json";
  }
}

/**
 * The values to submit: those that are not the default's. Text is text; elsewhere what was
 * written is JSON.
 *
 * Throws an Error that names the parameter if it is not.
 */
export function valuesOf(fields: Field[], written: ReadonlyMap<string, string>): Record<string, unknown> {
  const values: [string, unknown][] = [];
  for (const { name, kind, text: before, standard, required } of fields) {
    const text = written.get(name) ?? before;
    if (text === standard) continue;
    if (text === "" && standard === null && kind !== "text") {
      if (required) throw new Error(`parameter ${name} is needed`);
      continue;
    }
    if (kind === "text") {
      if (text !== "" || standard !== null || required) values.push([name, text]);
      continue;
    }
    try {
      values.push([name, JSON.parse(text)]);
    } catch {
      throw new Error(`parameter ${name} must be ${kind === "number" ? "a number" : "JSON"}, not ${text || "empty"}`);
    }
  }
  return Object.fromEntries(values);
}
