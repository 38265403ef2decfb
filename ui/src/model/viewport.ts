/**
 * What part of a drawing is seen: how it is zoomed, moved and fitted. Pure.
 *
 * A point (px, py) of the drawing is seen at (x + px * scale, y + py * scale).
 */

export interface Size {
  width: number;
  height: number;
}

export interface View {
  x: number;
  y: number;
  scale: number;
}

export interface Box extends Size {
  x: number;
  y: number;
}

export const SMALLEST = 0.05;
export const LARGEST = 3;

/** Below this a whole drawing shows nothing, and its beginning is shown instead, readable. */
const TOO_SMALL = 0.15;
const READABLE = 0.75;
const AROUND = 24; // pixels kept free around what is brought into sight

/** The whole drawing in the middle of the room, never larger than it is. */
export function fitted(drawing: Size, room: Size): View {
  const scale = Math.max(SMALLEST, Math.min(1, room.width / drawing.width, room.height / drawing.height) || 1);
  return bounded({ x: 0, y: 0, scale }, drawing, room);
}

/** What is shown at first: the whole, or the beginning of what is too large for that. */
export function opening(drawing: Size, room: Size): View {
  const whole = fitted(drawing, room);
  return whole.scale < TOO_SMALL ? bounded({ x: 0, y: 0, scale: READABLE }, drawing, room) : whole;
}

/** `factor` times as large; the point seen at (x, y) stays where it is. */
export function zoomed(view: View, factor: number, x: number, y: number): View {
  const scale = Math.min(LARGEST, Math.max(SMALLEST, view.scale * factor));
  const by = scale / view.scale;
  return { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
}

/** Moved so that the room is filled, and what is smaller than the room stands in its middle. */
export function bounded(view: View, drawing: Size, room: Size): View {
  const within = (at: number, size: number, all: number) =>
    size <= all ? (all - size) / 2 : Math.min(0, Math.max(all - size, at));
  return {
    scale: view.scale,
    x: within(view.x, drawing.width * view.scale, room.width),
    y: within(view.y, drawing.height * view.scale, room.height),
  };
}

/** Moved as little as brings `box` of the drawing into sight; the same view if it is. */
export function revealing(view: View, box: Box, room: Size): View {
  const by = (at: number, size: number, all: number) => {
    const free = Math.max(0, Math.min(AROUND, (all - size) / 2));
    if (at < free) return free - at;
    return at + size > all - free ? all - free - at - size : 0;
  };
  const dx = by(view.x + box.x * view.scale, box.width * view.scale, room.width);
  const dy = by(view.y + box.y * view.scale, box.height * view.scale, room.height);
  return dx || dy ? { ...view, x: view.x + dx, y: view.y + dy } : view;
}

/** The box nearest to `from` in a direction, counted in steps of (dx, dy); undefined if none is. */
export function beside<Place extends Box>(places: Place[], from: Place, dx: number, dy: number): Place | undefined {
  const middle = (box: Box) => [box.x + box.width / 2, box.y + box.height / 2] as const;
  const [x, y] = middle(from);
  let best: Place | undefined;
  let least = Infinity;
  for (const place of places) {
    const [px, py] = middle(place);
    const ahead = (px - x) * dx + (py - y) * dy;
    const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    if (ahead <= 1) continue;
    const cost = ahead + aside * 3;
    if (cost < least) [best, least] = [place, cost];
  }
  return best;
}
