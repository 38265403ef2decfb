/**
 * Converts a line of a log into styled text, as a terminal would show it. Colours and weights are
 * kept, overwritten text is gone, and other control sequences are dropped. Pure.
 *
 * Rule: the output is text and styles, never markup. Every colour is adjusted until it is readable
 * on its background, in the light and in the dark theme.
 *
 * anser (2.3) does not replace this parser: it allowedActions neither carriage returns and cursor moves, nor
 * titles, links and other string sequences, nor colours with colons. It passes 1 of the 11 tests of
 * control sequences.
 */

/** A colour as 0xRRGGBB. */
export type Colour = number;

export interface Style {
  readonly ink: Colour | null;
  readonly ground: Colour | null;
  readonly bold: boolean;
  readonly dim: boolean;
  readonly italic: boolean;
  readonly underline: boolean;
  readonly strike: boolean;
  readonly inverse: boolean;
}

export interface Piece {
  text: string;
  style: Style;
}

export const PLAIN: Style = {
  ink: null,
  ground: null,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  strike: false,
  inverse: false,
};

// A control sequence, a complete string sequence, any other escape, any other control character.
const TOKEN =
  /(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~])|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-~]?|[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/;
const MOVES = /[\r\b]|(?:\x1b\[|\x9b)[0-?]*[CDGKPX]/;
const MAX_WIDTH = 16_384; // the maximum column a sequence may move to

/** The visible pieces of `line`, starting in `style`, and the final style. */
export function written(line: string, style: Style = PLAIN): { pieces: Piece[]; style: Style } {
  const text = line.replace(/\r+$/, "");
  if (!CONTROL.test(text)) return { pieces: text ? [{ text, style }] : [], style };
  return MOVES.test(text) ? onScreen(text, style) : inOrder(text, style);
}

/** The text alone. */
export const plain = (pieces: Piece[]): string => pieces.map(({ text }) => text).join("");

function inOrder(line: string, style: Style): { pieces: Piece[]; style: Style } {
  const pieces: Piece[] = [];
  const put = (text: string) => {
    const last = pieces[pieces.length - 1];
    if (!text) return;
    if (last?.style === style) last.text += text;
    else pieces.push({ text, style });
  };
  let from = 0;
  for (const token of line.matchAll(TOKEN)) {
    put(line.slice(from, token.index));
    from = token.index + token[0].length;
    if (token[2] === "m") style = styled(style, token[1]!);
  }
  put(line.slice(from));
  return { pieces, style };
}

/** Writes character by character into a row, since the cursor can move back and overwrite. */
function onScreen(line: string, style: Style): { pieces: Piece[]; style: Style } {
  const row: Piece[] = [];
  let cursor = 0;
  const put = (text: string) => {
    for (const letter of text) {
      while (row.length < cursor) row.push({ text: " ", style: PLAIN });
      row[cursor++] = { text: letter, style };
    }
  };
  let from = 0;
  for (const token of line.matchAll(TOKEN)) {
    put(line.slice(from, token.index));
    from = token.index + token[0].length;
    const number = Number.parseInt(token[1] || "", 10);
    const by = Math.max(1, number || 1);
    switch (token[2] ?? token[0]) {
      case "m":
        style = styled(style, token[1]!);
        break;
      case "\r":
        cursor = 0;
        break;
      case "\b":
      case "D":
        cursor = Math.max(0, cursor - (token[2] ? by : 1));
        break;
      case "C":
        cursor = Math.min(MAX_WIDTH, cursor + by);
        break;
      case "G":
        cursor = Math.min(MAX_WIDTH, by - 1);
        break;
      case "K":
        if (!number) row.length = Math.min(row.length, cursor);
        else for (let at = 0; at < (number === 1 ? Math.min(cursor + 1, row.length) : row.length); at++) row[at] = { text: " ", style: PLAIN };
        break;
      case "P":
        row.splice(cursor, by);
        break;
      case "X":
        for (let at = cursor; at < Math.min(row.length, cursor + by); at++) row[at] = { text: " ", style: PLAIN };
    }
  }
  put(line.slice(from));
  const pieces: Piece[] = [];
  for (const { text, style: its } of row) {
    const last = pieces[pieces.length - 1];
    if (last?.style === its) last.text += text;
    else pieces.push({ text, style: its });
  }
  return { pieces, style };
}

const SWITCHES: Record<number, Partial<Style>> = {
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  9: { strike: true },
  21: { underline: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underline: false },
  27: { inverse: false },
  29: { strike: false },
  39: { ink: null },
  49: { ground: null },
};

/** `style` after the parameters of a "select graphic rendition" (ECMA-48 8.3.117). */
function styled(style: Style, parameters: string): Style {
  const given = parameters.split(";");
  let next: Style = style;
  for (let at = 0; at < given.length; at++) {
    const [code = 0, ...sub] = given[at]!.split(":").map((text) => Number.parseInt(text, 10) || 0);
    if (code === 0) next = PLAIN;
    else if (code === 38 || code === 48) {
      // Either all in one parameter, with an optional colour space as the third part, or in the following ones.
      const rest = sub.length ? sub : given.slice(at + 1, at + 5).map((text) => Number.parseInt(text, 10) || 0);
      const [kind, ...values] = rest;
      if (!sub.length) at += kind === 5 ? 2 : kind === 2 ? 4 : 1;
      const rgb = sub.length > 4 ? values.slice(1) : values;
      const colour = kind === 5 ? indexed(values[0] ?? 0) : kind === 2 ? mixed(rgb) : null;
      next = { ...next, [code === 38 ? "ink" : "ground"]: colour };
    } else if (code === 4 && sub[0] === 0) next = { ...next, underline: false };
    else if (SWITCHES[code]) next = { ...next, ...SWITCHES[code] };
    else {
      const [tens, unit] = [Math.floor(code / 10), code % 10];
      if (unit > 7) continue;
      if (tens === 3 || tens === 9) next = { ...next, ink: indexed(unit + (tens === 9 ? 8 : 0)) };
      if (tens === 4 || tens === 10) next = { ...next, ground: indexed(unit + (tens === 10 ? 8 : 0)) };
    }
  }
  return interned(next);
}

const SIXTEEN = [
  0x2e3436, 0xc4282d, 0x2d8a3e, 0xa67400, 0x2f6fd0, 0x9a4fb0, 0x12858f, 0xb9bfbc, 0x6e7673, 0xe5484d, 0x46b35c, 0xd9a520,
  0x5a9bf0, 0xc07ad6, 0x3bb5bf, 0xf2f4f3,
];

/** One of the 256 colours: 16 named ones, a 6 by 6 by 6 cube, and greys. */
function indexed(number: number): Colour | null {
  if (number < 0 || number > 255) return null;
  if (number < 16) return SIXTEEN[number]!;
  if (number > 231) return 0x010101 * (8 + (number - 232) * 10);
  const level = (n: number) => (n ? 55 + n * 40 : 0);
  const at = number - 16;
  return mixed([level(Math.floor(at / 36)), level(Math.floor(at / 6) % 6), level(at % 6)]);
}

const mixed = ([r = 0, g = 0, b = 0]: number[]): Colour => ((r & 255) << 16) | ((g & 255) << 8) | (b & 255);

const MAX_STYLES = 4096; // cached styles; a log may have any number
const styles = new Map<string, Style>();

/** One object for equal styles, so that they can be compared. */
function interned(style: Style): Style {
  const key = JSON.stringify(style);
  if (key === PLAIN_KEY) return PLAIN;
  const held = styles.get(key);
  if (held) return held;
  if (styles.size >= MAX_STYLES) styles.clear();
  styles.set(key, style);
  return style;
}

const PLAIN_KEY = JSON.stringify(PLAIN);

// -- readable colours ----------------------------------------------------------------

/** The background of logs (`--ground` in base.css) and the text colour. */
export const GROUND = { light: 0xf6f7f5, dark: 0x121614 } as const;
const INK = { light: 0x1c2421, dark: 0xe5eae7 } as const;
const ENOUGH = 4.5; // to 1: WCAG 2.2, 1.4.3

/** The relative luminance of a colour, by WCAG. */
function luminance(colour: Colour): number {
  const [r, g, b] = [colour >> 16, (colour >> 8) & 255, colour & 255].map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

export function contrast(one: Colour, other: Colour): number {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

/** `ink`, darkened or lightened until it is readable on `ground`. */
export function readable(ink: Colour, ground: Colour): Colour {
  if (contrast(ink, ground) >= ENOUGH) return ink;
  const towards = contrast(0, ground) > contrast(0xffffff, ground) ? 0 : 255;
  const part = (shift: number, share: number) => {
    const value = (ink >> shift) & 255;
    return Math.round(value + (towards - value) * share);
  };
  for (let share = 0.1; share < 1; share += 0.1) {
    const made = mixed([part(16, share), part(8, share), part(0, share)]);
    if (contrast(made, ground) >= ENOUGH) return made;
  }
  return towards ? 0xffffff : 0;
}

/** The CSS colours of `style` for both themes; empty if it has none. */
export function colours({ ink, ground, inverse }: Style): { color?: string; backgroundColor?: string } {
  if (ink === null && ground === null && !inverse) return {};
  const of = (theme: "light" | "dark") => {
    let [front, back] = [ink ?? INK[theme], ground ?? GROUND[theme]];
    if (inverse) [front, back] = [back, front];
    return [css(readable(front, back)), css(back)] as const;
  };
  const [light, dark] = [of("light"), of("dark")];
  const color = `light-dark(${light[0]}, ${dark[0]})`;
  return ground === null && !inverse ? { color } : { color, backgroundColor: `light-dark(${light[1]}, ${dark[1]})` };
}

const css = (colour: Colour) => `#${colour.toString(16).padStart(6, "0")}`;
