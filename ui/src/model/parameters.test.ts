import { describe, expect, test } from "vitest";
import { fieldsOf, valuesOf, type Schema } from "./parameters";

const written = (texts: Record<string, string>) => new Map(Object.entries(texts));

describe("parameters", () => {
  test("only what was changed is submitted, text as text and all else as JSON", () => {
    const fields = fieldsOf(null, { country: "de", limit: 10, tags: ["a"] });
    expect(valuesOf(fields, written({ country: "12", limit: "20", tags: '["a"]' }))).toEqual({ country: "12", limit: 20 });
  });

  test("what is not JSON is refused by name", () => {
    const fields = fieldsOf(null, { limit: 10, tags: [] });
    expect(() => valuesOf(fields, written({ limit: "ten" }))).toThrow("parameter limit must be a number, not ten");
    expect(() => valuesOf(fields, written({ tags: "" }))).toThrow("parameter tags must be JSON, not empty");
  });

  test("a schema says what may be chosen and what is needed", () => {
    const schema: Schema = {
      $ref: "#/$defs/Params",
      $defs: {
        Params: {
          type: "object",
          properties: { size: { enum: ["small", "large"], default: "small" }, name: { type: "string" }, on: { type: "boolean", default: true } },
          required: ["name"],
        },
      },
    };
    const fields = fieldsOf(schema, { size: "small", on: true });
    expect(fields.map(({ name, kind, required }) => [name, kind, required])).toEqual([
      ["size", "choice", false],
      ["name", "text", true],
      ["on", "switch", false],
    ]);
    expect(valuesOf(fields, written({ size: '"large"', name: "x", on: "false" }))).toEqual({ size: "large", name: "x", on: false });
  });

  test("what an execution was given stands in the form and is sent again", () => {
    const fields = fieldsOf(null, { limit: 10, country: "de" }, { limit: 3, extra: "x" });
    expect(valuesOf(fields, written({}))).toEqual({ limit: 3, extra: "x" });
    expect(valuesOf(fields, written({ limit: "10" }))).toEqual({ extra: "x" });
  });

  const EXPORT: Schema = {
    type: "object",
    properties: {
      day: { type: "string", format: "date" },
      rows: { type: "integer", minimum: 1, maximum: 1000, default: 100 },
      note: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
      dry: { anyOf: [{ type: "boolean" }, { type: "null" }], default: null },
      window: { anyOf: [{ $ref: "#/$defs/Window" }, { type: "null" }], default: null },
    },
    required: ["day"],
    $defs: {
      Window: {
        type: "object",
        properties: { start: { type: "string", format: "date" }, end: { type: "string", format: "date" } },
        required: ["start"],
      },
    },
  };
  const STANDARDS = { rows: 100, note: null, dry: null, window: null };

  test("a schema says of each what it may be, in words", () => {
    const rules = fieldsOf(EXPORT, STANDARDS).map(({ name, kind, rule }) => [name, kind, rule]);
    expect(rules).toEqual([
      ["day", "date", "a date"],
      ["rows", "number", "a whole number, 1 to 1000"],
      ["note", "text", "text, or nothing"],
      ["dry", "choice", "yes or no, or nothing"],
      ["window", "group", "an object, or nothing"],
    ]);
  });

  test("what may be nothing is empty, and what is emptied is null", () => {
    const given = fieldsOf(EXPORT, { ...STANDARDS, note: "x" });
    expect(valuesOf(given, written({ day: "2026-11-21", note: "" }))).toEqual({ day: "2026-11-21", note: null });
    expect(valuesOf(fieldsOf(EXPORT, STANDARDS), written({ day: "2026-11-21", dry: "true" }))).toEqual({ day: "2026-11-21", dry: true });
    expect(() => valuesOf(given, written({}))).toThrow("parameter day is needed");
  });

  test("a group is sent whole once anything in it was written, else not at all", () => {
    const fields = fieldsOf(EXPORT, STANDARDS, { day: "2026-01-01", window: { start: "2026-01-02", end: "2026-01-09" } });
    expect(valuesOf(fields, written({}))).toEqual({ day: "2026-01-01", window: { start: "2026-01-02", end: "2026-01-09" } });
    expect(valuesOf(fields, written({ "window\nend": "2026-01-03" }))).toMatchObject({ window: { start: "2026-01-02", end: "2026-01-03" } });
    const empty = fieldsOf(EXPORT, STANDARDS);
    expect(valuesOf(empty, written({ day: "2026-01-01" }))).toEqual({ day: "2026-01-01" });
    expect(() => valuesOf(empty, written({ day: "2026-01-01", "window\nend": "2026-01-03" }))).toThrow("parameter start is needed");
  });

  test("a job that takes anything takes a JSON object", () => {
    const fields = fieldsOf(null, null, { a: 1 });
    expect(valuesOf(fields, written({}))).toEqual({ a: 1 });
    expect(valuesOf(fields, written({ "": '{"b": [2]}' }))).toEqual({ b: [2] });
    expect(() => valuesOf(fields, written({ "": "[1]" }))).toThrow("the parameters must be a JSON object");
    expect(() => valuesOf(fields, written({ "": "{" }))).toThrow("the parameters must be JSON");
  });
});
