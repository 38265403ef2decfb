import { describe, expect, test } from "vitest";
import { beginning, failureOf, resultText } from "./failure";

describe("an error", () => {
  test("of Python is a message and a traceback", () => {
    const error = "ValueError: a\n\nb\n\nTraceback (most recent call last):\n  File \"x\", line 1\nValueError: a\n\nb\n";
    expect(failureOf(error)).toEqual({
      message: "ValueError: a\n\nb",
      trace: 'Traceback (most recent call last):\n  File "x", line 1\nValueError: a\n\nb',
    });
    expect(failureOf("E: x\n\n  + Exception Group Traceback (most recent call last):\n  |").trace).toMatch(/^ {2}\+ Exception/);
  });

  test("of a program is a message", () => {
    expect(failureOf("exit code 3: no such file\n")).toEqual({ message: "exit code 3: no such file", trace: "" });
    expect(failureOf("")).toEqual({ message: "", trace: "" });
  });
});

describe("a result", () => {
  test("is unchanged text, or indented JSON", () => {
    expect(resultText("<b>\n")).toBe("<b>\n");
    expect(resultText({ a: [1] })).toBe('{\n  "a": [\n    1\n  ]\n}');
    expect(resultText(0)).toBe("0");
  });

  test("that is long is shortened", () => {
    expect(beginning("short")).toBe("short");
    expect(beginning("x\n".repeat(1000)).split("\n").length).toBe(24);
    expect(beginning("x".repeat(10_000)).length).toBe(4000);
    expect(beginning(`${"x".repeat(3999)}😀`)).toBe("x".repeat(3999));
  });
});
