import { describe, expect, test } from "vitest";
import { colours, contrast, GROUND, plain, PLAIN, readable, written, type Style } from "./ansi";

const shown = (line: string) => plain(written(line).pieces);
const styles = (line: string) => written(line).pieces.map(({ text, style }) => [text, style] as const);
const has = (some: Partial<Style>) => ({ ...PLAIN, ...some });

describe("a line of a log", () => {
  test("without control characters is unchanged", () => {
    for (const text of ["", "plain", "<b>&amp;</b>", "\ttab", "مرحبا 日本語 👩‍🔬", "\u202etxt.exe"]) expect(shown(text)).toBe(text);
  });

  test.each([
    ["the end of a line of Windows", "done\r", "done"],
    ["a bar of progress", "10%\r55%\r100%", "100%"],
    ["a shorter text over a longer one", "loading...\rok", "okading..."],
    ["the rest wiped out", "loading...\rok\x1b[K", "ok"],
    ["all wiped out", "loading...\x1b[2K\rok", "ok        "],
    ["steps back", "abd\bc", "abc"],
    ["a column", "abcdef\x1b[3GX", "abXdef"],
    ["a column far away", "a\x1b[999999999Gb", null],
    ["letters of two code units", "😀😀\r😁", "😁😀"],
  ])("%s is shown as a terminal would", (_, line, result) => {
    if (result === null) expect(shown(line).length).toBeLessThan(20_000);
    else expect(shown(line)).toBe(result);
  });

  test.each([
    ["cursor and screen", "\x1b[2J\x1b[1;1Ha\x1b[?25lb\x1b[6nc", "abc"],
    ["a window's title", "\x1b]0;title\x07a\x1b]0;title\x1b\\b", "ab"],
    ["a link", "\x1b]8;;http://else.where\x1b\\text\x1b]8;;\x1b\\", "text"],
    ["device strings", "a\x1bPq#0;2\x1b\\b\x90x\x9cc", "abc"],
    ["other escapes", "a\x1b(Bb\x1b=c\x1b7d", "abcd"],
    ["single controls", "a\x00b\x07c\x7fd\x85e\x0bf", "abcdef"],
    ["one that is cut off", "text \x1b[31", "text 31"],
    ["a string that never ends, of which the text stays", "a\x1b]0;secret", "a0;secret"],
  ])("%s are left out", (_, line, result) => expect(shown(line)).toBe(result));

  test("colours and weights are kept until they are reset", () => {
    expect(styles("\x1b[1;31mERROR\x1b[0m text")).toEqual([
      ["ERROR", has({ bold: true, ink: 0xc4282d })],
      [" text", PLAIN],
    ]);
    expect(styles("\x1b[4;3;9;7;2mx\x1b[24;23;29;27;22my")).toEqual([
      ["x", has({ underline: true, italic: true, strike: true, inverse: true, dim: true })],
      ["y", PLAIN],
    ]);
    expect(styles("\x1b[92;101mx\x1b[39;49my")[0]![1]).toMatchObject({ ink: 0x46b35c, ground: 0xe5484d });
  });

  test.each([
    ["\x1b[38;5;196mx", 0xff0000],
    ["\x1b[38;5;255mx", 0xeeeeee],
    ["\x1b[38;5;21mx", 0x0000ff],
    ["\x1b[38;2;18;52;86mx", 0x123456],
    ["\x1b[38:2::18:52:86mx", 0x123456],
    ["\x1b[38:2:18:52:86mx", 0x123456],
    ["\x1b[38:5:196mx", 0xff0000],
    ["\x1b[38;5;300mx", null],
    ["\x1b[38mx", null],
    ["\x9b38;5;196mx", 0xff0000],
  ])("%j has its colour", (line, ink) => expect(written(line).pieces[0]!.style.ink).toBe(ink));

  test("parameters after a 256-colour sequence are applied", () => {
    expect(written("\x1b[38;5;196;1mx").style).toMatchObject({ ink: 0xff0000, bold: true });
    expect(written("\x1b[48;2;1;2;3;4mx").style).toMatchObject({ ground: 0x010203, underline: true });
  });

  test("a colour continues on the next line", () => {
    const { style } = written("\x1b[31mbegins");
    expect(written("goes on", style).pieces).toEqual([{ text: "goes on", style: has({ ink: 0xc4282d }) }]);
  });

  test("equal styles are the same object", () => {
    expect(written("\x1b[31ma").style).toBe(written("\x1b[31mb").style);
    expect(written("\x1b[31ma\x1b[0m").style).toBe(PLAIN);
  });
});

describe("colours", () => {
  const all = Array.from({ length: 256 }, (_, n) => written(`\x1b[38;5;${n}mx`).style.ink!);

  test("are readable in both themes, and on each other", () => {
    for (const ink of all)
      for (const ground of [GROUND.light, GROUND.dark, ...all.slice(0, 16)])
        expect(contrast(readable(ink, ground), ground)).toBeGreaterThanOrEqual(4.5);
  });

  test("are unchanged if they are readable", () => {
    expect(readable(0x000000, GROUND.light)).toBe(0x000000);
    expect(readable(0xffffff, GROUND.dark)).toBe(0xffffff);
  });

  test("are given for both themes, and left out if there are none", () => {
    expect(colours(PLAIN)).toEqual({});
    expect(colours(has({ bold: true }))).toEqual({});
    expect(colours(has({ ink: 0 })).color).toMatch(/^light-dark\(#000000, #[0-9a-f]{6}\)$/);
    expect(colours(has({ inverse: true })).backgroundColor).toBe("light-dark(#1c2421, #e5eae7)");
  });
});
