// @vitest-environment happy-dom
import { cleanup, render, screen } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { choose } from "../../app/router";
import type { ExecutionDetail, ItemDetail, TaskDetail } from "../../api/client";
import { Items } from "./items";

const ITEM = { index: 0, key: null, state: "failed", attempts: 0, history: [], started: null, finished: null, error: null, result_bytes: 0, waiting: null } as unknown as ItemDetail;
const EXECUTION = { id: "e", state: "failed" } as ExecutionDetail;
const TASK = { name: "t", state: "failed" } as TaskDetail;

beforeEach(() => {
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ items: [ITEM], next: null })));
  choose({ item: "0" });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

async function buttonsOfItem(dropped: boolean): Promise<string[]> {
  render(<Items detail={EXECUTION} task={TASK} counts={{ total: 1, failed: 1 }} gone={false} dropped={dropped} news={0} />);
  const item = await screen.findByRole("region", { name: "Item 0" }, { timeout: 20_000 });
  return [...item.querySelectorAll("button")].map(({ textContent }) => textContent);
}

test("an item of a finished execution can be retried", async () => {
  expect(await buttonsOfItem(false)).toEqual(["Retry item", "Close"]);
});

test("an item of a task that a retry has dropped offers nothing that cannot work", async () => {
  expect(await buttonsOfItem(true)).toEqual(["Close"]);
});
