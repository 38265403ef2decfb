// @vitest-environment happy-dom
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import { choose } from "../app/router";
import { Tabs } from "./tabs";

const TABS = ["One", "Two", "Three"].map((label) => ({ key: label.toLowerCase(), label, view: () => `view ${label}` }));

afterEach(() => {
  cleanup();
  choose({ view: null });
});

test("the first tab is selected by default, and another one is kept in the URL", async () => {
  render(<Tabs label="Views" choice="view" tabs={TABS} />);
  expect(screen.getByRole("tabpanel").textContent).toBe("view One");
  fireEvent.click(screen.getByRole("tab", { name: "Two" }));
  expect((await screen.findByText("view Two")).getAttribute("role")).toBe("tabpanel");
  expect(location.search).toBe("?view=two");
});

test("arrow keys cycle through the tabs, which are one stop of the Tab key", async () => {
  render(<Tabs label="Views" choice="view" tabs={TABS} />);
  fireEvent.click(screen.getByRole("tab", { name: "One" }));
  fireEvent.keyDown(screen.getByRole("tab", { name: "One" }), { key: "ArrowLeft" });
  await screen.findByText("view Three");
  expect(document.activeElement).toBe(screen.getByRole("tab", { name: "Three" }));
  expect(screen.getAllByRole("tab").filter((tab) => (tab as HTMLElement).tabIndex === 0)).toHaveLength(1);
});
