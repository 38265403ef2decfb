/**
 * The visible part of a drawing: zooming, moving and fitting. Pure.
 *
 * A point (px, py) of the drawing is shown at (x + px * scale, y + py * scale).
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

/** The minimum scale to show a whole drawing; a larger drawing is opened at its beginning. */
const TOO_SMALL = 0.15;
const READABLE = 0.75;
const AROUND = 24; // margin in pixels around a revealed box

/** The whole drawing, centred, at most at full size. */
export function fitted(drawing: Size, room: Size): View {
  const scale = Math.max(SMALLEST, Math.min(1, room.width / drawing.width, room.height / drawing.height) || 1);
  return bounded({ x: 0, y: 0, scale }, drawing, room);
}

/** The initial view: the whole drawing, or the beginning of a large one. */
export function opening(drawing: Size, room: Size): View {
  const whole = fitted(drawing, room);
  return whole.scale < TOO_SMALL ? bounded({ x: 0, y: 0, scale: READABLE }, drawing, room) : whole;
}

/** Zooms by `factor` around the point (x, y). */
export function zoomed(view: View, factor: number, x: number, y: number): View {
  const scale = Math.min(LARGEST, Math.max(SMALLEST, view.scale * factor));
  const by = scale / view.scale;
  return { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
}

/** Moves the view so that it has no empty margins; a smaller drawing is centred. */
export function bounded(view: View, drawing: Size, room: Size): View {
  const within = (at: number, size: number, all: number) =>
    size <= all ? (all - size) / 2 : Math.min(0, Math.max(all - size, at));
  return {
    scale: view.scale,
    x: within(view.x, drawing.width * view.scale, room.width),
    y: within(view.y, drawing.height * view.scale, room.height),
  };
}

/** Moves the view as little as needed to show `box`. */
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

/** The nearest box from `from` in the direction (dx, dy); undefined if there is none. */
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
