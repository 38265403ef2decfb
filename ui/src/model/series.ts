/** Samples over time as small charts. Pure. */

/**
 * An SVG path through `values`, the newest at the right, in a box of `width` by `height` with space
 * for `room` values up to `most`. Empty if there are none.
 */
export function lineOf(values: number[], room: number, width: number, height: number, most: number): string {
  const step = width / Math.max(1, room - 1);
  const first = width - (values.length - 1) * step;
  const tenth = (number: number) => Math.round(number * 10) / 10;
  const at = (value: number) => tenth(height - (most > 0 ? Math.min(value, most) / most : 0) * height);
  return values.map((value, n) => `${n ? "L" : "M"}${tenth(first + n * step)} ${at(value)}`).join("");
}

/** `value` rounded up to 1, 2 or 5 times a power of ten. */
export function roundUp(value: number): number {
  if (value <= 0) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((round) => round >= value * 0.999999)!;
}

/** A size as text: "512 B", "4.2 MiB". */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${power && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}
