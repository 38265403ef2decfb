import { describe, expect, test } from "vitest";
import { read, write } from "./json";
import { fieldsOf, Mistaken, mistakesOf, valuesOf, type Schema } from "./parameters";

const written = (texts: Record<string, string>) => new Map(Object.entries(texts));

describe("parameters", () => {
  test("only changed values are submitted, text as text and others as JSON", () => {
    const fields = fieldsOf(null, { country: "de", limit: 10, tags: ["a"] });
    expect(valuesOf(fields, written({ country: "12", limit: "20", tags: '["a"]' }))).toEqual({ country: "12", limit: 20 });
  });

  test("invalid JSON is refused by name", () => {
    const fields = fieldsOf(null, { limit: 10, tags: [] });
    expect(() => valuesOf(fields, written({ limit: "ten" }))).toThrow("parameter limit must be a number, not ten");
    expect(() => valuesOf(fields, written({ tags: "" }))).toThrow("parameter tags must be JSON, not empty");
  });

  test("every invalid field is named at once", () => {
    const fields = fieldsOf(EXPORT, { rows: 100 });
    try {
      valuesOf(fields, written({ rows: "ten", "window\nend": "2026-01-03" }));
      expect.unreachable();
    } catch (error) {
      expect([...(error as Mistaken).mistakes]).toEqual([
        ["day", "parameter day is required"],
        ["rows", "parameter rows must be a number, not ten"],
        ["window\nstart", "parameter start is required"],
      ]);
    }
  });

  test("errors of the server belong to the innermost field", () => {
    const errors = [
      { field: "params.day", message: "a" },
      { field: "params.window.end", message: "b" },
      { field: "params.window", message: "c" },
      { field: "params.rows[0].x", message: "d" },
      { field: "params.other", message: "e" },
      { field: "params", message: "f" },
    ];
    expect([...mistakesOf(errors, fieldsOf(EXPORT, {}))]).toEqual([
      ["day", "a"],
      ["window\nend", "b"],
      ["window", "c"],
      ["rows", "d"],
      ["", "other: e; f"],
    ]);
  });

  test("options and required fields follow the schema", () => {
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

  test("the form has the parameters of the given execution and sends them again", () => {
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

  test("the constraints of a schema are described in words", () => {
    const rules = fieldsOf(EXPORT, STANDARDS).map(({ name, kind, rule }) => [name, kind, rule]);
    expect(rules).toEqual([
      ["day", "date", "a date"],
      ["rows", "number", "a whole number, 1 to 1000"],
      ["note", "text", "text, or nothing"],
      ["dry", "choice", "yes or no, or nothing"],
      ["window", "group", "an object, or nothing"],
    ]);
  });

  test("null is an empty field, and an emptied field is null", () => {
    const given = fieldsOf(EXPORT, { ...STANDARDS, note: "x" });
    expect(valuesOf(given, written({ day: "2026-11-21", note: "" }))).toEqual({ day: "2026-11-21", note: null });
    expect(valuesOf(fieldsOf(EXPORT, STANDARDS), written({ day: "2026-11-21", dry: "true" }))).toEqual({ day: "2026-11-21", dry: true });
    expect(() => valuesOf(given, written({}))).toThrow("parameter day is required");
  });

  test("a group is sent completely if any of its fields was changed, else not at all", () => {
    const fields = fieldsOf(EXPORT, STANDARDS, { day: "2026-01-01", window: { start: "2026-01-02", end: "2026-01-09" } });
    expect(valuesOf(fields, written({}))).toEqual({ day: "2026-01-01", window: { start: "2026-01-02", end: "2026-01-09" } });
    expect(valuesOf(fields, written({ "window\nend": "2026-01-03" }))).toMatchObject({ window: { start: "2026-01-02", end: "2026-01-03" } });
    const empty = fieldsOf(EXPORT, STANDARDS);
    expect(valuesOf(empty, written({ day: "2026-01-01" }))).toEqual({ day: "2026-01-01" });
    expect(() => valuesOf(empty, written({ day: "2026-01-01", "window\nend": "2026-01-03" }))).toThrow("parameter start is required");
  });

  test("numbers keep their digits, in fields and in JSON", () => {
    const schema: Schema = {
      type: "object",
      properties: {
        id: { type: "integer", default: 1, minimum: read("-9223372036854775808") as number, maximum: read("9223372036854775807") as number },
        share: { type: "number", default: read("1.0") },
        ids: { type: "array", default: [] },
        pick: { enum: [read("9007199254740993"), 2] },
        part: { type: "object", properties: { n: { type: "integer" } } },
      },
    };
    const texts = {
      id: "9007199254740993",
      share: "0.10",
      ids: "[123456789012345678901234567890, 2.0, -0, 1e400]",
      pick: "9007199254740993",
      "part\nn": "18446744073709551617",
    };
    const fields = fieldsOf(schema, read('{"id":1,"share":1.0,"ids":[]}') as Record<string, unknown>);
    expect(fields.map(({ rule }) => rule).slice(0, 4)).toEqual([
      "a whole number, -9223372036854775808 to 9223372036854775807",
      "a number",
      "a list",
      "one of 9007199254740993, 2",
    ]);
    expect(fields[1]!.text).toBe("1.0");
    expect(write(valuesOf(fields, written(texts)))).toBe(
      '{"id":9007199254740993,"share":0.10,"ids":[123456789012345678901234567890,2.0,-0,1e400],"pick":9007199254740993,"part":{"n":18446744073709551617}}',
    );
    expect(valuesOf(fields, written({ share: "1.0" }))).toEqual({});
  });

  test("parameters of an execution keep their digits when sent again, with and without a schema", () => {
    const given = '{"id":9007199254740993,"deep":{"list":[1.0,1e400]}}';
    const values = read(given) as Record<string, unknown>;
    expect(write(valuesOf(fieldsOf(null, null, values), written({})))).toBe(given);
    expect(write(valuesOf(fieldsOf(null, { id: 1, deep: {} }, values), written({})))).toBe(given);
    expect(fieldsOf(null, { id: 1 }, values)[0]).toMatchObject({ kind: "number", text: "9007199254740993" });
  });

  test("a duplicate name is refused, not dropped", () => {
    expect(() => valuesOf(fieldsOf(null, null, {}), written({ "": '{"a":1,"a":2}' }))).toThrow("the parameters must be JSON: Duplicate key 'a'");
    expect(() => valuesOf(fieldsOf(null, { o: {} }), written({ o: '{"a":1,"a":2}' }))).toThrow("parameter o must be JSON: Duplicate key 'a'");
  });

  test("a job without declared parameters accepts a JSON object", () => {
    const fields = fieldsOf(null, null, { a: 1 });
    expect(valuesOf(fields, written({}))).toEqual({ a: 1 });
    expect(valuesOf(fields, written({ "": '{"b": [2]}' }))).toEqual({ b: [2] });
    expect(() => valuesOf(fields, written({ "": "[1]" }))).toThrow("the parameters must be a JSON object");
    expect(() => valuesOf(fields, written({ "": "{" }))).toThrow("the parameters must be JSON");
  });
});
