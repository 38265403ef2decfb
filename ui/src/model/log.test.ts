import { describe, expect, test } from "vitest";
import { BLOCK, linesNamed, LogText, marked, named, patternOf, type Lines } from "./log";
import { PLAIN, plain } from "./ansi";

const numbers = (first: number, count: number) => Array.from({ length: count }, (_, n) => `line ${first + n}`);
const NONE = { times: [], unfinished: null };
const window = (first: number, count: number, end: number, gaps: [number, number][] = []): Lines => ({
  first,
  end,
  lines: numbers(first, count),
  ...NONE,
  gaps,
});

describe("a partly loaded log", () => {
  test("requests missing blocks once", () => {
    const log = new LogText();
    log.take(window(0, 500, 100_000));
    expect(log.lacks(0, 500)).toBeNull();
    expect(log.lacks(490, 510)).toEqual({ after: 500, limit: BLOCK });
    log.take(window(500, 200, 100_000));
    expect(log.lacks(490, 710)).toEqual({ after: 700, limit: 300 });
    expect(log.line(699)).toBe("line 699");
    expect(log.line(700)).toBeUndefined();
    expect(log.lacks(99_990, 100_010)).toEqual({ after: 99_500, limit: BLOCK });
  });

  test("evicts the least recently used blocks", () => {
    const log = new LogText();
    for (let block = 0; block < 1000; block++) {
      log.take(window(block * BLOCK, BLOCK, 500_000));
      log.lacks(0, 10);
    }
    const held = Array.from({ length: 1000 }, (_, block) => log.line(block * BLOCK)).filter((line) => line !== undefined);
    expect(held.length).toBeLessThanOrEqual(80);
    expect(log.line(0)).toBe("line 0");
    expect(log.line(999 * BLOCK)).toBeDefined();
  });

  test("limits the memory of very long lines", () => {
    const log = new LogText();
    for (let block = 0; block < 20; block++)
      log.take({ ...NONE, first: block * BLOCK, end: 10_000, lines: Array.from({ length: BLOCK }, () => "x".repeat(10_000)), gaps: [] });
    const held = Array.from({ length: 20 }, (_, block) => log.line(block * BLOCK)).filter((line) => line !== undefined);
    expect(held.length).toBeLessThanOrEqual(3);
  });

  test("shows dropped lines as one row", () => {
    const log = new LogText();
    log.take(window(0, 3, 1_000_000));
    expect(log.rows).toBe(1_000_000);
    log.take({ ...NONE, first: 999_998, end: 1_000_000, lines: ["a", "b"], gaps: [[3, 999_998]] });
    expect(log.rows).toBe(6);
    expect([0, 2, 3, 4, 5].map((row) => log.at(row))).toEqual([
      { line: 0 },
      { line: 2 },
      { gap: [3, 999_998] },
      { line: 999_998 },
      { line: 999_999 },
    ]);
    expect([0, 2, 3, 5000, 999_998, 999_999].map((line) => log.row(line))).toEqual([0, 2, 3, 3, 4, 5]);
    expect(log.lacks(0, 6)).toBeNull();
    expect(log.line(999_999)).toBe("b");
  });

  test("notices a gap between lines, and its growth", () => {
    const log = new LogText();
    log.take({ ...NONE, first: 0, end: 20, lines: ["a", "b", "c"], gaps: [[2, 10]] });
    expect(log.line(10)).toBe("c");
    log.take({ ...NONE, first: 15, end: 20, lines: ["d"], gaps: [[10, 15]] });
    expect(log.rows).toBe(2 + 1 + 5);
    expect(log.at(2)).toEqual({ gap: [2, 15] });
    expect(log.at(3)).toEqual({ line: 15 });
  });

  test("an unfinished line is a row that grows, is overwritten, and ends", () => {
    const log = new LogText();
    const receive = (lines: string[], end: number, unfinished: string | null) =>
      log.take({ first: end - lines.length, end, lines, times: lines.map(() => null), unfinished: unfinished === null ? null : { text: unfinished, time: "t" }, gaps: [] });
    receive(["\x1b[32mbegins"], 1, "10%");
    expect(log.rows).toBe(2);
    expect(log.at(1)).toEqual({ line: 1 });
    expect(log.lacks(0, 5)).toBeNull();
    expect([plain(log.pieces(1)!), log.time(1)]).toEqual(["10%", "t"]);
    expect(log.pieces(1)![0]!.style).toBe(log.pieces(0)![0]!.style);
    receive([], 1, "10%\r 60%");
    expect(plain(log.pieces(1)!)).toBe(" 60%");
    receive(["10%\r 60%\rdone"], 2, null);
    expect(log.rows).toBe(2);
    expect(plain(log.pieces(1)!)).toBe("done");
    expect(log.pieces(2)).toBeUndefined();
  });

  test("a late response does not restore an unfinished line that has ended", () => {
    const log = new LogText();
    log.take({ ...window(0, 3, 3), unfinished: { text: "half", time: null } });
    log.take(window(3, 1, 4));
    log.take({ ...window(0, 1, 3), unfinished: { text: "half", time: null } });
    expect([log.rows, log.unfinished]).toEqual([4, null]);
  });

  test("lines have their times if known, also after gaps", () => {
    const log = new LogText();
    log.take({ first: 0, end: 20, lines: ["a", "b", "c"], times: ["ta", null, "tc"], unfinished: null, gaps: [[2, 10]] });
    expect([0, 1, 10, 11].map((line) => log.time(line))).toEqual(["ta", null, "tc", null]);
  });

  test("a colour continues on the next line, in any order of loading", () => {
    const log = new LogText();
    log.take({ ...NONE, first: 0, end: 3, lines: ["\x1b[31mred", "still", "\x1b[0mnot"], gaps: [] });
    expect(log.pieces(1)![0]!.style.ink).not.toBeNull();
    expect(log.pieces(2)![0]!.style).toBe(PLAIN);
    expect(log.pieces(0)![0]!.text).toBe("red");
    expect(log.pieces(7)).toBeUndefined();
  });
});

describe("a searched text", () => {
  test("is found case-insensitively and literally, also across colours", () => {
    const pieces = [
      { text: "an ER", style: PLAIN },
      { text: "ror (a.b) error", style: { ...PLAIN, bold: true } },
    ];
    const found = marked(pieces, patternOf("Error"));
    expect(found.map(({ text, hit }) => (hit ? `[${text}]` : text)).join("|")).toBe("an |[ER]|[ror]| (a.b) |[error]");
    expect(plain(found)).toBe(plain(pieces));
    expect(marked(pieces, patternOf("(a.b)")).filter(({ hit }) => hit)).toHaveLength(1);
    expect(marked(pieces, patternOf("")).some(({ hit }) => hit)).toBe(false);
  });

  test("may be any text", () => {
    for (const text of ["\\", "[", "a-b", "/", "^$", "{1}", "😀", "\u202e", "a|b"])
      expect(marked([{ text: `x${text}y`, style: PLAIN }], patternOf(text)).filter(({ hit }) => hit).map((one) => one.text)).toEqual([text]);
  });
});

test("lines in URLs are counted from 1", () => {
  expect(linesNamed("1")).toEqual([0, 0]);
  expect(linesNamed("20-12")).toEqual([11, 19]);
  for (const bad of [null, "", "0", "-1", "x", "1-", "1.5", "9".repeat(30)]) expect(linesNamed(bad)).toBeNull();
  expect([named(0), named(19, 11)]).toEqual(["1", "12-20"]);
});
