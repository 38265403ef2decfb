import { describe, expect, test } from "vitest";
import { isDigits, read, readAnswer, write } from "./json";

const NUMBERS = [
  "0", "-0", "1", "1.0", "1.10", "-1.0e5", "1E5", "1e+5", "1e400", "5e-400", "0.1", "0.30000000000000004", "1e21", "1e-7",
  "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993", "18446744073709551616",
  "123456789012345678901234567890", `1${"0".repeat(4000)}`, "3.14159265358979323846264338327950288",
];

describe("the digits of a number", () => {
  test.each(NUMBERS)("%s stay, wherever it stands", (number) => {
    for (const text of [number, `[${number},1]`, `{"a":{"b":[${number}]},"n ${number}":"${number}"}`])
      expect(write(read(text))).toBe(text);
  });

  test("are kept separately only if a JavaScript number would change them", () => {
    expect(NUMBERS.filter((number) => !isDigits(read(number)))).toEqual(["0", "1", "0.1", "0.30000000000000004", "1e-7", "9007199254740991", "9007199254740992"]);
  });

  test("are kept in random numbers", () => {
    const below = (seed: number) => {
      let state = seed;
      return (end: number) => (state = (state * 48_271) % 2_147_483_647) % end;
    };
    const draw = below(7);
    for (let count = 0; count < 3000; count++) {
      const digits = (most: number) => Array.from({ length: 1 + draw(most) }, () => draw(10)).join("");
      const whole = digits(30).replace(/^0+(?=\d)/, "");
      const text = `${draw(2) ? "-" : ""}${whole}${draw(2) ? `.${digits(20)}` : ""}${draw(4) ? "" : `e${["", "-", "+"][draw(3)]}${digits(3)}`}`;
      expect(write(read(text))).toBe(text);
    }
  });

  test("are kept in any JSON, with the same value as by JSON.parse", () => {
    for (const text of ['{"__proto__":{"a":1.0}}', '["\\u0023\\n\\ud83d\\ude00","1.0","\\"2.0"]', '{"2":1,"1":2}', "[]", "null", '""', "[[],{}]"])
      expect(JSON.parse(write(read(text)))).toEqual(JSON.parse(text));
  });
});

test("invalid JSON and duplicate keys are refused", () => {
  for (const text of ["", "01", "1.", ".5", "+1", "1e", "NaN", "Infinity", "{a:1}", "[1,]", "'a'", "1 2", '{"a":1,"a":2}'])
    expect(() => read(text), text).toThrow(SyntaxError);
});

test("only user-written values of a response keep their digits", () => {
  const text = '{"timeout":60.0,"dag":{"1.0":[]},"params":{"n":9007199254740993,"x":1.0},"tasks":[{"priority":1.0,"result":[2.0],"error":"1.0"}]}';
  const answer = readAnswer(text, new Set(["params", "result"])) as Record<string, unknown>;
  expect(answer.timeout).toBe(60);
  expect(write(answer)).toBe(text.replace("60.0", "60").replace('"priority":1.0', '"priority":1'));
  expect(readAnswer('{"params":{"n":1},"at":"2026-11-21T14:05:00.0Z"}', new Set(["params"]))).toEqual({ params: { n: 1 }, at: "2026-11-21T14:05:00.0Z" });
});
