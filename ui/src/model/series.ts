/** Samples over time as small charts. Pure. */

/** A line through `values` in a field of `width` by `height`, where the top is `most`. */
export function lineOf(values: number[], width: number, height: number, most: number): string {
  if (!values.length || most <= 0) return `M0 ${height}H${width}`;
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  const at = (value: number) => Math.round((height - (Math.min(value, most) / most) * height) * 10) / 10;
  return values.map((value, n) => `${n ? "L" : "M"}${Math.round(n * step * 10) / 10} ${at(value)}`).join("");
}

/** The next round number that is not below `value`: 1, 2 or 5 times a power of ten. */
export function roundUp(value: number): number {
  if (value <= 0) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((round) => round >= value * 0.999999)!;
}

/** Bytes in words: "512 B", "4.2 MiB". */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${power && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}
