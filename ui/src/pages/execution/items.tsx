/** The items of a mapped task: a list that can be filtered, and the selected item with its log and result. */

import { useEffect, useId, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { choose, chosen } from "../../app/router";
import { allowedItemActions, countOf, itemNamed, outcomeOf, stateNamed, statesOf, type Counts } from "../../model/items";
import { LABEL } from "../../model/states";
import { Name } from "../../components/name";
import { Progress } from "../../components/progress";
import { Sign, StateLabel } from "../../components/state";
import { Waits } from "../../components/waits";
import { useWindow } from "../../components/window";
import type { ExecutionDetail, ItemDetail, TaskDetail } from "../../api/client";
import { itemAction, REMOVED } from "./actions";
import { ItemsView } from "./items-view";
import { Log } from "./log";
import { Artifacts, Costs, Failed, Lasted, Result } from "./task-part";

const ROW = 26; // pixels, as in execution-page.css
const MAX_ATTEMPTS = 20; // buttons of an item's newest attempts

const pick = (item: number | null) => choose({ item: item === null ? null : String(item), attempt: null, line: null, find: null });

export function Items(props: { detail: ExecutionDetail; task: TaskDetail; counts: Counts; gone: boolean; dropped: boolean; news: number }) {
  const { detail, task, counts, news } = props;
  const state = stateNamed(chosen("items"));
  const selected = itemNamed(chosen("item"));
  const part = chosen("key") ?? "";
  const view = useMemo(() => new ItemsView(detail.id, task.name, state, part), [detail.id, task.name, state, part]);
  useEffect(() => view.start(), [view]);
  useEffect(() => view.outdate(), [view, task, counts, news]);
  useEffect(() => view.select(selected), [view, selected]);
  const item = view.item.value;
  return (
    <section class="items-part" aria-label="Items">
      <div class="bar">
        <h3>Items</h3>
        <Filter counts={counts} />
        {(part !== "" || view.keyed.value) && <KeyFilter part={part} />}
      </div>
      {view.failure.value && <p class="failure">The items could not be loaded: {view.failure.value}. Retrying.</p>}
      <List key={`${state ?? "all"} ${part}`} view={view} counts={counts} selected={selected} />
      {item && item.index === selected && <Item detail={detail} task={task} item={item} gone={props.gone} dropped={props.dropped} />}
    </section>
  );
}

function Filter({ counts }: { counts: Counts }) {
  const state = stateNamed(chosen("items"));
  return (
    <span class="filter" role="group" aria-label="Show only items in a state">
      <button type="button" class="button small" aria-pressed={state === null} onClick={() => choose({ items: null })}>
        All {(counts.total ?? 0).toLocaleString("en")}
      </button>
      {statesOf(counts, state).map((each) => (
        <button type="button" key={each} class="button small" aria-pressed={state === each} onClick={() => choose({ items: each })}>
          {countOf(counts, each).toLocaleString("en")} {LABEL[each]}
        </button>
      ))}
    </span>
  );
}

/** Shows only the items whose key contains a text. */
function KeyFilter({ part }: { part: string }) {
  return (
    <input
      type="search"
      class="search key-filter"
      aria-label="Show only items with this text in their key"
      placeholder="Key contains"
      maxLength={250}
      value={part}
      onInput={({ currentTarget }) => choose({ key: currentTarget.value || null })}
    />
  );
}

function List({ view, counts, selected }: { view: ItemsView; counts: Counts; selected: number | null }) {
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const rows = useRef<HTMLDivElement>(null);
  void view.version.value;
  const { state, filtered } = view;
  const more = filtered && !view.whole.value;
  const likely = state === null || view.part !== "" ? 0 : countOf(counts, state); // unknown for a part of a key
  const count = !filtered ? (counts.total ?? 0) : more ? Math.max(view.found.value + 1, likely) : view.found.value;
  const range = useWindow(rows, count, ROW, box);
  const [first, end] = [range[0], Math.min(range[1], count)];
  useEffect(() => view.need(first, end), [view, first, end]);
  const shown = Array.from({ length: Math.max(0, end - first) }, (_, index) => first + index);
  const rowOf = () => {
    if (selected === null) return -1;
    if (!filtered) return selected;
    for (let row = 0; row < view.found.value; row++) if (view.rows.at(row)?.index === selected) return row;
    return -1;
  };
  const at = rowOf();

  // Scrolls the selected row into view.
  useLayoutEffect(() => {
    const scroller = box.current!;
    if (at < 0) return;
    const top = at * ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW - scroller.clientHeight;
  }, [at]);

  const turn = (event: KeyboardEvent) => {
    const page = Math.floor(box.current!.clientHeight / ROW);
    const to = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: count - 1,
    }[event.key];
    if (to === undefined || count === 0) return;
    event.preventDefault();
    const row = Math.max(0, Math.min(count - 1, to));
    const index = !filtered ? row : view.rows.at(row)?.index;
    if (index !== undefined) pick(index);
  };
  return (
    <div
      ref={box}
      class="items"
      role="listbox"
      tabIndex={0}
      aria-label={state === null ? "Items" : `Items ${LABEL[state]}`}
      aria-activedescendant={at >= first && at < end ? `${id}${at}` : undefined}
      onKeyDown={turn}
    >
      {count === 0 && (
        <p class="quiet nothing" role="option" aria-selected="false" aria-disabled="true">
          {view.part !== "" ? "No items with this key." : state === null ? "No items." : `No items are ${LABEL[state]}.`}
        </p>
      )}
      <div ref={rows} class="item-rows" style={{ height: `${count * ROW}px` }} role="presentation">
        {shown.map((row) => {
          const item = view.rows.at(row);
          const index = item?.index ?? row;
          return (
            <div
              key={row}
              id={`${id}${row}`}
              class="item-row"
              role="option"
              aria-selected={row === at}
              aria-posinset={row + 1}
              aria-setsize={count}
              data-item={item ? index : undefined}
              data-state={item?.state}
              style={{ top: `${row * ROW}px` }}
              onClick={() => item && pick(index)}
            >
              {item ? <Cells item={item} /> : <span class="quiet">…</span>}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function Cells({ item }: { item: ItemDetail }) {
  return (
    <>
      <span class="number quiet">{item.index}</span>
      <span class="is">
        <span class={`mark ${item.state}`}>
          <Sign state={item.state} />
        </span>
        {LABEL[item.state]}
      </span>
      <span class="quiet tries">{item.attempts > 1 && `${item.attempts} attempts`}</span>
      <span class="took quiet">{item.started !== null && <Lasted from={item.started} to={item.finished} />}</span>
      <span class={`outcome ${item.error ? "wrong" : "quiet"}`}>
        {item.key !== null && (
          <span class="key">
            <Name text={item.key} />
          </span>
        )}
        {item.waiting ? <Waits on={item.waiting} /> : item.progress ? <Progress bar={item.progress} of={`item ${item.index}`} /> : <Name text={outcomeOf(item)} />}
      </span>
    </>
  );
}

/** The selected item. */
function Item(props: { detail: ExecutionDetail; task: TaskDetail; item: ItemDetail; gone: boolean; dropped: boolean }) {
  const { detail, task, item } = props;
  const wanted = Number(chosen("attempt"));
  const attempt = wanted >= 1 && wanted <= item.attempts ? wanted : item.attempts;
  const newest = attempt === item.attempts;
  const cost = item.history.find((one) => one.attempt === attempt)?.cost;
  const first = Math.max(1, item.attempts - MAX_ATTEMPTS + 1);
  const may = props.dropped ? [] : allowedItemActions(detail.state, task.state, item.state, item.waiting !== null);
  return (
    <section class="item-part" data-item-detail={item.index} aria-label={`Item ${item.index}`}>
      <div class="bar">
        <h3>
          Item {item.index}
          {item.key !== null && (
            <>
              {" "}
              <Name text={item.key} />
            </>
          )}
        </h3>
        <StateLabel state={item.state} />
        <span class="button-row">
          {may.map((handle) => {
            const { label, act } = itemAction(handle, detail, task.name, item.index);
            const off = props.gone && handle === "retry";
            return (
              <button type="button" class="button small" key={handle} disabled={off} title={off ? REMOVED : undefined} onClick={() => void act()}>
                {label}
              </button>
            );
          })}
          <button type="button" class="button small" onClick={() => pick(null)}>
            Close
          </button>
        </span>
      </div>
      {item.attempts > 1 && (
        <div class="attempts" role="group" aria-label="Attempts of the item">
          {Array.from({ length: item.attempts - first + 1 }, (_, index) => first + index).map((each) => (
            <button
              type="button"
              key={each}
              class="attempt"
              aria-pressed={each === attempt}
              onClick={() => choose({ attempt: each === item.attempts ? null : String(each), line: null })}
            >
              Attempt {each}
            </button>
          ))}
        </div>
      )}
      {item.waiting && (
        <p class="waits">
          Waiting: <Waits on={item.waiting} />.
        </p>
      )}
      {item.skip?.why && (
        <p class="waits">
          Skipped: <Name text={item.skip.why} />.
        </p>
      )}
      {item.progress && (
        <p class="waits">
          <Progress bar={item.progress} of={`item ${item.index}`} />
        </p>
      )}
      {cost && <Costs cost={cost} of={`attempt ${attempt}`} />}
      {newest && item.error && <Failed key={attempt} error={item.error} />}
      {item.attempts === 0 ? (
        !item.skip?.why && <p class="quiet none">No attempts.</p>
      ) : (
        <Log
          key={`${detail.id} ${attempt} ${item.index} ${task.name}`}
          id={detail.id}
          task={task.name}
          attempt={attempt}
          item={item.index}
          failed={newest && item.state === "failed"}
        />
      )}
      {newest && item.artifacts && <Artifacts id={detail.id} task={task.name} artifacts={item.artifacts} item={item.index} />}
      {newest && item.result_bytes > 0 && (
        <Result
          key={`${item.index} ${attempt}`}
          id={detail.id}
          task={{ name: task.name, result: item.result, result_bytes: item.result_bytes }}
          attempt={attempt}
          item={item.index}
        />
      )}
    </section>
  );
}
