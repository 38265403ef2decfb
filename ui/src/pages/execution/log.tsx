/**
 * The log of an attempt, of any length; only visible lines render.
 *
 * Rule: only the user scrolls, except while following. Lines are text, never markup.
 */

import { useSignal, useSignalEffect, type ReadonlySignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { useKeys } from "../../app/keys";
import { announce, quoted } from "../../app/notices";
import { executionHref } from "../../app/route";
import { choose, chosen } from "../../app/router";
import { stamps, wrap } from "../../app/settings";
import { colours, type Piece } from "../../model/ansi";
import { linesNamed, marked, named, patternOf } from "../../model/log";
import { VirtualScroll, type Window } from "../../model/virtual-scroll";
import { inFull, stamp as stampOf } from "../../model/time";
import { Name } from "../../components/name";
import { useZone } from "../../components/time";
import { logAddress } from "../../api/client";
import { LogView } from "./log-view";

const MIN_HEIGHT = 14 * 16; // pixels: the minimum height of the log
const OVER = 400; // pixels rendered beyond the visible part
const IDLE = 200; // milliseconds after which the scroll bar is corrected
const TYPED = 250; // milliseconds after the last keystroke until the search starts

export function Log(props: { id: string; task: string; attempt: number; item?: number; failed: boolean }) {
  const { id, task, attempt, item } = props;
  const view = useMemo(() => new LogView(id, task, attempt, item), [id, task, attempt, item]);
  useEffect(() => view.start(), [view]);
  const { port, spacer, block, shown, follow, lit, go, end, drawn } = useReader(view, props.failed);

  const find = chosen("find") ?? "";
  const large = chosen("log") === "large";
  const field = useRef<HTMLInputElement>(null);
  const typing = useRef<ReturnType<typeof setTimeout>>(undefined); // set while a search is pending
  const typed = () => {
    clearTimeout(typing.current);
    typing.current = undefined;
  };
  // Not its `value` property: a render while the user types would lose letters.
  useLayoutEffect(() => {
    if (typing.current === undefined) field.current!.value = find;
  }, [find]);
  useEffect(() => void view.search(find), [view, find]);
  const hits = view.hits.value;
  const at = lit.value && hits.lines.indexOf(lit.value[0]);

  const turnTo = (step: 1 | -1) => {
    const { lines } = view.hits.peek();
    if (!lines.length) return;
    const from = lit.peek()?.[0] ?? (step > 0 ? -1 : Infinity);
    const next =
      step > 0 ? (lines.find((line) => line > from) ?? lines[0]!) : (lines.findLast((line) => line < from) ?? lines.at(-1)!);
    go(next);
  };
  const goToFirstError = async () => {
    const line = await view.trouble().catch((error: Error) => announce(`The search failed: ${error.message}`, { bad: true }));
    if (line === null) announce("No errors found in this log.");
    else if (line !== undefined) go(line);
  };
  const toEnd = () => (follow.peek() && view.running.peek() ? (follow.value = false) : end());
  const openField = () => {
    field.current!.focus();
    field.current!.select();
  };
  useKeys("Log", [
    { key: "l", does: "Focus the log", act: () => port.current!.focus() },
    { key: "/", does: "Search the log", act: openField },
    { key: "n", does: "Next match", act: () => turnTo(1) },
    { key: "N", does: "Previous match", act: () => turnTo(-1) },
    { key: "e", does: "First error", act: () => void goToFirstError() },
    { key: "f", does: "Follow new lines, or go to the end", act: toEnd },
    { key: "w", does: "Wrap long lines", act: turnWrap },
    { key: "t", does: "Show the time of each line", act: turnStamps },
    { key: "z", does: "Maximize the log", act: turnLarge },
    ...(large ? [{ key: "Escape", does: "Restore the log", act: turnLarge }] : []),
  ]);

  return (
    <section class={`log-part${large ? " large" : ""}`} aria-label={`Log of ${quoted(task)}${item === undefined ? "" : `, item ${item}`}, attempt ${attempt}`}>
      <div class="bar tools">
        <h3>{large ? <Name text={task} /> : "Log"}</h3>
        <span class="finder" role="search">
          <input
            ref={field}
            class="search"
            type="search"
            placeholder="Search the log ( / )"
            aria-label="Search the log"
            maxLength={200}
            onInput={({ currentTarget }) => {
              clearTimeout(typing.current);
              typing.current = setTimeout(() => {
                typed();
                choose({ find: currentTarget.value || null });
              }, TYPED);
            }}
            onKeyDown={(event) => {
              if (event.key === "Enter") {
                event.preventDefault();
                typed();
                const text = event.currentTarget.value;
                choose({ find: text || null });
                void view.search(text).then(() => turnTo(event.shiftKey ? -1 : 1));
              } else if (event.key === "Escape") {
                typed();
                choose({ find: null });
                port.current!.focus();
              }
            }}
          />
          {hits.text && (
            <>
              <span class="count found" role="status">
                {at !== null && at >= 0 ? `${at + 1} of ${view.counted}` : `${view.counted} found`}
              </span>
              <button type="button" class="icon" aria-label="Previous match" title="Previous match (N)" onClick={() => turnTo(-1)}>
                <Arrow to="M2.5 7.5L6 4l3.5 3.5" />
              </button>
              <button type="button" class="icon" aria-label="Next match" title="Next match (n)" onClick={() => turnTo(1)}>
                <Arrow to="M2.5 4.5L6 8l3.5-3.5" />
              </button>
            </>
          )}
        </span>
        <span class="button-row">
          <button type="button" class="button small" title="The first line that looks like an error (e)" onClick={() => void goToFirstError()}>
            First error
          </button>
          {view.running.value ? (
            <button type="button" class="button small" aria-pressed={follow.value} title="Follow new lines (f)" onClick={toEnd}>
              Follow
            </button>
          ) : (
            <button type="button" class="button small" title="Go to the end (f)" onClick={toEnd}>
              End
            </button>
          )}
          <button type="button" class="button small" aria-pressed={wrap.value === "on"} title="Wrap long lines (w)" onClick={turnWrap}>
            Wrap
          </button>
          <button type="button" class="button small" aria-pressed={stamps.value === "on"} title="Show the time of each line (t)" onClick={turnStamps}>
            Times
          </button>
          <button type="button" class="button small" aria-pressed={large} title="Maximize the log (z)" onClick={turnLarge}>
            Maximize
          </button>
          <a class="button small" href={logAddress(id, task, attempt, stamps.value === "on", item)} download>
            Download
          </a>
        </span>
      </div>
      {view.failure.value && <p class="failure">The log could not be loaded: {view.failure.value}. Retrying.</p>}
      <div
        ref={port}
        class={`log${wrap.value === "on" ? " wraps" : ""}${view.running.value ? " live" : ""}`}
        role="region"
        aria-label={`Lines of the log of ${quoted(task)}`}
        tabIndex={0}
      >
        {view.version.value === 0 && <p class="quiet nothing">…</p>}
        {view.version.value > 0 && view.text.rows === 0 && (
          <p class="quiet nothing">{view.running.value ? "No output yet." : "No output."}</p>
        )}
        <div ref={spacer} class="spacer">
          <div ref={block} class="lines">
            <Lines view={view} window={shown} lit={lit.value} found={hits.text} go={go} onDrawn={drawn} />
          </div>
        </div>
      </div>
    </section>
  );
}

const turnLarge = () => choose({ log: chosen("log") === "large" ? null : "large" }, true);
const turnStamps = () => (stamps.value = stamps.peek() === "on" ? "off" : "on");
const turnWrap = () => (wrap.value = wrap.peek() === "on" ? "off" : "on");

function Arrow({ to }: { to: string }) {
  return (
    <svg viewBox="0 0 12 12" aria-hidden="true">
      <path d={to} />
    </svg>
  );
}

/** The position in the log, and functions to change it. */
function useReader(view: LogView, failed: boolean) {
  const port = useRef<HTMLDivElement>(null);
  const spacer = useRef<HTMLDivElement>(null);
  const block = useRef<HTMLDivElement>(null);
  const virtualScroll = useMemo(() => new VirtualScroll(), [view]);
  const shown = useSignal<Window>({ first: 0, end: 0, offset: 0 });
  const follow = useSignal(false);
  /** The highlighted lines: those in the URL, or the first error. */
  const lit = useSignal<[number, number] | null>(null);
  const own = useRef({
    opened: false,
    /** The line at the top. */
    anchor: 0,
    /** The line last jumped to, until the user scrolls. */
    aim: null as number | null,
    widest: 0,
    idle: undefined as ReturnType<typeof setTimeout> | undefined,
  });

  const refresh = () => {
    const window = virtualScroll.window(OVER);
    const held = shown.peek();
    if (window.first !== held.first || window.end !== held.end || window.offset !== held.offset) shown.value = window;
    const at = view.text.at(virtualScroll.top);
    own.current.anchor = at.gap ? at.gap[0] : at.line;
    view.need(window.first, window.end);
  };
  const moved = () => Math.abs(port.current!.scrollTop - virtualScroll.native) >= 1;
  /** Applies a scroll of the user. */
  const take = () => {
    own.current.aim = null;
    virtualScroll.scrolled(port.current!.scrollTop);
    follow.value = virtualScroll.atEnd;
  };
  /**
   * Applies a scroll whose event is still to come, with the next frame. Code that sets the position
   * calls this first, or it would undo that scroll.
   */
  const takePending = () => {
    const box = port.current;
    if (!box || !own.current.opened || !moved()) return;
    // A position beyond the end was not left by the user: the content has become shorter.
    if (virtualScroll.native > box.scrollHeight - box.clientHeight + 1) return;
    take();
    refresh();
  };
  /** Scrolls the browser to the position of the virtualScroll. */
  const settle = () => {
    const box = port.current;
    if (!box) return;
    spacer.current!.style.height = `${virtualScroll.length}px`;
    if (Math.abs(box.scrollTop - virtualScroll.position) >= 1) box.scrollTop = virtualScroll.position;
    virtualScroll.placed(box.scrollTop);
    refresh();
  };
  const show = (line: number) => {
    own.current.aim = line;
    virtualScroll.go(view.text.row(line));
    settle();
  };
  const go = (line: number, to = line) => {
    follow.value = false;
    const name = named(line, to);
    if (chosen("line") === name) show(line);
    else choose({ line: name });
  };
  const end = () => {
    follow.value = true;
    own.current.aim = null;
    virtualScroll.goToEnd();
    settle();
  };

  // New lines change the number of rows; the position stays at the same line.
  useSignalEffect(() => {
    if (!view.version.value) return;
    takePending();
    virtualScroll.top = view.text.row(own.current.anchor);
    virtualScroll.resize(view.text.rows);
    if (follow.peek()) virtualScroll.goToEnd();
    settle();
    if (!own.current.opened) {
      own.current.opened = true;
      void open();
    }
  });
  const open = async () => {
    if (linesNamed(chosen("line"))) return show(linesNamed(chosen("line"))![0]);
    if (view.running.peek()) return end();
    if (!failed) return;
    const line = await view.trouble().catch(() => null);
    if (linesNamed(chosen("line"))) return;
    if (line === null) return end();
    lit.value = [line, line];
    show(line);
  };

  const line = chosen("line");
  useEffect(() => {
    const wanted = linesNamed(line);
    lit.value = wanted;
    if (!wanted) return;
    follow.value = false;
    const row = view.text.row(wanted[0]);
    const { first, end } = shown.peek();
    const box = port.current!.getBoundingClientRect();
    const place = row >= first && row < end ? block.current!.children[row - first]?.getBoundingClientRect() : undefined;
    // A visible line stays where it is.
    if (own.current.opened && !(place && place.top >= box.top && place.bottom <= box.bottom)) show(wanted[0]);
  }, [view, line]);

  useEffect(() => {
    const box = port.current!;
    own.current.opened = false;
    const scrolled = () => {
      if (!moved()) return;
      take();
      clearTimeout(own.current.idle);
      if (virtualScroll.exact) return refresh();
      if (virtualScroll.misaligned) settle();
      else refresh();
      own.current.idle = setTimeout(rest, IDLE);
    };
    const rest = () => {
      takePending();
      settle();
    };
    box.addEventListener("scroll", scrolled, { passive: true });
    const fill = () => {
      const left = innerHeight - (box.getBoundingClientRect().top + scrollY) - 24;
      box.style.setProperty("--most", `${Math.max(MIN_HEIGHT, left)}px`);
    };
    fill();
    addEventListener("resize", fill);
    const watch = new ResizeObserver(() => {
      takePending();
      virtualScroll.room = box.clientHeight;
      virtualScroll.resize(view.text.rows);
      if (own.current.aim !== null) return show(own.current.aim);
      if (follow.peek()) virtualScroll.goToEnd();
      settle();
    });
    watch.observe(box);
    return () => {
      box.removeEventListener("scroll", scrolled);
      removeEventListener("resize", fill);
      watch.disconnect();
      clearTimeout(own.current.idle);
    };
  }, [view]);

  useSignalEffect(() => {
    void stamps.value; // Times take room from the lines.
    takePending();
    virtualScroll.wrap(wrap.value === "on");
    own.current.widest = 0;
    if (block.current) block.current.style.minWidth = "";
    if (follow.peek()) virtualScroll.goToEnd();
    settle();
  });

  // The height of wrapped rows is known only after the render.
  const drawn = () => {
    const window = shown.peek();
    const lines = block.current!;
    if (wrap.peek() === "on") {
      [...lines.children].forEach((row, index) => virtualScroll.measure(window.first + index, row.getBoundingClientRect().height));
      if (follow.peek()) virtualScroll.goToEnd();
      const now = virtualScroll.window(OVER);
      let top = now.offset;
      for (let row = window.first; row < now.first; row++) top -= virtualScroll.height(row);
      for (let row = now.first; row < window.first; row++) top += virtualScroll.height(row);
      lines.style.top = `${top}px`;
      const below = [...lines.children].at(-1);
      if (below && below.getBoundingClientRect().bottom < port.current!.getBoundingClientRect().bottom) refresh();
      spacer.current!.style.height = `${virtualScroll.length}px`;
    } else {
      lines.style.top = `${window.offset}px`;
      own.current.widest = Math.max(own.current.widest, lines.scrollWidth);
      lines.style.minWidth = `max(100%, ${own.current.widest}px)`;
    }
  };

  return { port, spacer, block, shown, follow, lit, go, end, drawn };
}

function Lines(props: {
  view: LogView;
  window: ReadonlySignal<Window>;
  lit: [number, number] | null;
  found: string;
  go: (line: number, to?: number) => void;
  onDrawn: () => void;
}) {
  const { view, lit, go } = props;
  const window = props.window.value;
  void view.version.value;
  useLayoutEffect(props.onDrawn);
  const pattern = useMemo(() => patternOf(props.found), [props.found]);
  const zone = useZone();
  const rows = [];
  for (let row = window.first; row < Math.min(window.end, view.text.rows); row++) {
    const at = view.text.at(row);
    if (at.gap) rows.push(<Gap key={`gap ${at.gap[0]}`} from={at.gap[0]} to={at.gap[1]} />);
    else {
      const { line } = at;
      rows.push(
        <Line
          key={line}
          view={view}
          line={line}
          pieces={view.text.pieces(line)}
          stamp={stamps.value === "on" ? { time: view.text.time(line), zone } : null}
          lit={lit !== null && line >= lit[0] && line <= lit[1]}
          pattern={pattern}
          onPick={(extend) => (extend && lit ? go(lit[0], line) : go(line))}
        />,
      );
    }
  }
  return <>{rows}</>;
}

function Gap({ from, to }: { from: number; to: number }) {
  return (
    <div class="gap">
      {to - from === 1 ? "One line was" : `${(to - from).toLocaleString("en")} lines were`} dropped from this log here
    </div>
  );
}

function Line(props: {
  view: LogView;
  line: number;
  pieces: Piece[] | undefined;
  /** The time of the line, if times are shown; `time` is null if it is unknown. */
  stamp: { time: string | null; zone: string | undefined } | null;
  lit: boolean;
  pattern: RegExp | null;
  onPick: (extend: boolean) => void;
}) {
  const { view, line, pieces, stamp, lit, pattern } = props;
  const onPick = useRef(props.onPick);
  onPick.current = props.onPick;
  return useMemo(
    () => (
      <div class={`log-line${lit ? " lit" : ""}`} data-line={line + 1}>
        <a
          class="number"
          href={executionHref(view.id, { task: view.task, item: view.item === undefined ? null : String(view.item), attempt: String(view.attempt), line: named(line) })}
          tabIndex={-1}
          aria-label={`Line ${line + 1}`}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey || event.altKey) return;
            event.preventDefault();
            onPick.current(event.shiftKey);
          }}
        >
          {line + 1}
        </a>
        {stamp && (
          <time class="stamp" dateTime={stamp.time ?? undefined} title={stamp.time === null ? undefined : inFull(stamp.time, stamp.zone)}>
            {stamp.time !== null && stampOf(stamp.time, stamp.zone)}
          </time>
        )}
        <span class="text">{pieces && marked(pieces, pattern).map((piece, index) => <Part key={index} {...piece} />)}</span>
      </div>
    ),
    [view, line, pieces, stamp?.time, stamp?.zone, stamp === null, lit, pattern],
  );
}

/** Styled text. */
function Part({ text, style, hit }: Piece & { hit: boolean }) {
  const { bold, dim, italic, underline, strike } = style;
  const name = Object.entries({ bold, dim, italic, underline, strike })
    .filter(([, on]) => on)
    .map(([key]) => key)
    .join(" ");
  const its = colours(style);
  if (hit)
    return <mark class={name}>{text}</mark>;
  if (!name && !Object.keys(its).length) return <>{text}</>;
  return (
    <span class={name} style={its}>
      {text}
    </span>
  );
}

