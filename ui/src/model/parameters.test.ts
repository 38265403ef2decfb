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
});
