/**
 * The loaded part of an attempt's log: lines by number, and gaps. Pure.
 *
 * Rule: the number of lines in memory is limited; evicted lines are loaded again. Lines are counted
 * from 0 here and from 1 on the page.
 */

import { PLAIN, written, type Piece, type Style } from "./ansi";

/** The number of lines that are loaded and dropped together. */
export const BLOCK = 500;
const MAX_BLOCKS = 80;
const MAX_CHARACTERS = 12_000_000;

/** A response with lines from number `first` on, of `end` lines so far. */
export interface Lines {
  first: number;
  end: number;
  lines: string[];
  /** The time of each line; null if it is unknown. */
  times: (string | null)[];
  /** Line `end`, if it is unfinished. */
  unfinished: Unfinished | null;
  gaps: [number, number][];
}

export interface Unfinished {
  text: string;
  time: string | null;
}

interface Block {
  lines: (string | undefined)[];
  times: (string | null)[];
  pieces: (Piece[] | undefined)[];
  /** The styles at the ends of its lines. */
  styles: (Style | undefined)[];
  characters: number;
}

/** A displayed row: a line, or a gap of dropped lines. */
export type Row = { line: number; gap?: undefined } | { gap: [number, number] };

export class LogText {
  /** The number of the next line. */
  end = 0;
  /** The beginning of that line, if there is any; it is a row, too. */
  unfinished: Unfinished | null = null;
  private gaps: [number, number][] = [];
  private readonly blocks = new Map<number, Block>();
  private characters = 0;

  /** Adds loaded lines. */
  take({ first, end, lines, times, unfinished, gaps }: Lines): void {
    if (end >= this.end) this.unfinished = unfinished;
    this.end = Math.max(this.end, end);
    for (const gap of gaps) this.leaveOut(gap);
    let number = first;
    lines.forEach((line, index) => {
      const gap = gaps.find(([from]) => from === number);
      if (gap) number = gap[1];
      this.put(number++, line, times[index] ?? null);
    });
    this.dropOldest();
  }

  /** The number of rows; a gap is one. */
  get rows(): number {
    const lines = this.end + (this.unfinished ? 1 : 0);
    return this.gaps.reduce((count, [from, to]) => count - (to - from) + 1, lines);
  }

  /** The content of row number `row`. */
  at(row: number): Row {
    let line = row;
    for (const gap of this.gaps) {
      const [from, to] = gap;
      if (line < from) break;
      if (line === from) return { gap };
      line += to - from - 1;
    }
    return { line };
  }

  /** The row of a line. */
  row(line: number): number {
    let row = line;
    for (const [from, to] of this.gaps) {
      if (line < from) break;
      row -= line < to ? line - from : to - from - 1;
    }
    return row;
  }

  line(number: number): string | undefined {
    return this.blocks.get(Math.floor(number / BLOCK))?.lines[number % BLOCK];
  }

  /** The time of a line; null if it is unknown. */
  time(number: number): string | null {
    if (number === this.end) return this.unfinished?.time ?? null;
    return this.blocks.get(Math.floor(number / BLOCK))?.times[number % BLOCK] ?? null;
  }

  /** A line as pieces; undefined if it is not loaded. A colour continues to the end of its block. */
  pieces(number: number): Piece[] | undefined {
    if (number === this.end && this.unfinished) {
      this.pieces(number - 1);
      const before = this.blocks.get(Math.floor(number / BLOCK))?.styles[(number % BLOCK) - 1];
      return written(this.unfinished.text, before ?? PLAIN).pieces;
    }
    const block = this.blocks.get(Math.floor(number / BLOCK));
    const at = number % BLOCK;
    if (block?.lines[at] === undefined) return undefined;
    let from = at;
    while (from > 0 && block.pieces[from] === undefined && block.lines[from - 1] !== undefined) from--;
    for (; from <= at; from++) {
      if (block.pieces[from] !== undefined) continue;
      const { pieces, style } = written(block.lines[from]!, block.styles[from - 1] ?? PLAIN);
      block.pieces[from] = pieces;
      block.styles[from] = style;
    }
    return block.pieces[at];
  }

  /** The request needed to show rows [first, end); null if all are loaded. */
  lacks(first: number, end: number): { after: number; limit: number } | null {
    for (let row = Math.max(0, first); row < Math.min(end, this.rows); row++) {
      const { line } = this.at(row) as { line?: number };
      if (line === undefined || line >= this.end) continue;
      const number = Math.floor(line / BLOCK);
      const block = this.blocks.get(number);
      if (block?.lines[line % BLOCK] === undefined) {
        const after = block ? line : number * BLOCK;
        return { after, limit: (number + 1) * BLOCK - after };
      }
      this.touch(number, block);
    }
    return null;
  }

  private put(number: number, line: string, time: string | null): void {
    const at = Math.floor(number / BLOCK);
    let block = this.blocks.get(at);
    if (!block) this.blocks.set(at, (block = { lines: [], times: [], pieces: [], styles: [], characters: 0 }));
    if (block.lines[number % BLOCK] !== undefined) return;
    block.lines[number % BLOCK] = line;
    block.times[number % BLOCK] = time;
    block.characters += line.length;
    this.characters += line.length;
  }

  private leaveOut(gap: [number, number]): void {
    const all = [...this.gaps, gap].sort((a, b) => a[0] - b[0]);
    this.gaps = [];
    for (const [from, to] of all) {
      const last = this.gaps[this.gaps.length - 1];
      if (last && from <= last[1]) last[1] = Math.max(last[1], to);
      else if (from < to) this.gaps.push([from, to]);
    }
  }

  /** Least recently used blocks first. */
  private touch(number: number, block: Block): void {
    if ([...this.blocks.keys()].at(-1) === number) return;
    this.blocks.delete(number);
    this.blocks.set(number, block);
  }

  private dropOldest(): void {
    for (const [number, block] of this.blocks) {
      const few = this.blocks.size <= MAX_BLOCKS && this.characters <= MAX_CHARACTERS;
      if (few || this.blocks.size <= 2) return;
      this.blocks.delete(number);
      this.characters -= block.characters;
    }
  }
}

/** A case-insensitive pattern for `text`; null if it is empty. */
export function patternOf(text: string): RegExp | null {
  return text ? new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu") : null;
}

/** A piece of a line, and whether it is a match. */
export interface Marked extends Piece {
  hit: boolean;
}

/** `pieces`, split at matches of `pattern`. */
export function marked(pieces: Piece[], pattern: RegExp | null): Marked[] {
  if (!pattern) return pieces.map((piece) => ({ ...piece, hit: false }));
  const text = pieces.map((piece) => piece.text).join("");
  const edges: [number, number][] = [...text.matchAll(pattern)].map(({ index, 0: { length } }) => [index, index + length]);
  const made: Marked[] = [];
  let from = 0;
  for (const { text: own, style } of pieces) {
    const to = from + own.length;
    let at = from;
    for (const [begin, end] of edges) {
      if (end <= from || begin >= to) continue;
      if (begin > at) made.push({ text: text.slice(at, begin), style, hit: false });
      made.push({ text: text.slice(Math.max(begin, at), Math.min(end, to)), style, hit: true });
      at = Math.min(end, to);
    }
    if (at < to) made.push({ text: text.slice(at, to), style, hit: false });
    from = to;
  }
  return made;
}

/** The lines in the URL ("12" or "12-20"), counted from 0, inclusive; null if there are none. */
export function linesNamed(text: string | null): [number, number] | null {
  const [, from, to] = /^([1-9]\d{0,14})(?:-([1-9]\d{0,14}))?$/.exec(text ?? "") ?? [];
  if (from === undefined) return null;
  const [a, b] = [Number(from) - 1, Number(to ?? from) - 1];
  return [Math.min(a, b), Math.max(a, b)];
}

/** The lines as in the URL. */
export const named = (from: number, to: number = from): string =>
  from === to ? String(from + 1) : `${Math.min(from, to) + 1}-${Math.max(from, to) + 1}`;
