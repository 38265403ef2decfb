// @vitest-environment happy-dom
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import { Confirmation, confirmed } from "./dialog";

afterEach(cleanup);

test.each([
  ["Cancel it", true],
  ["Go back", false],
  ["Close", false],
])("%s answers %s, and the question is gone", async (button, answer) => {
  render(<Confirmation />);
  const answered = confirmed("Cancel?", "What runs is stopped.", "Cancel it");
  expect(await screen.findByText("What runs is stopped.")).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: button, hidden: true }));
  expect(await answered).toBe(answer);
  await expect.poll(() => screen.queryByText("What runs is stopped.")).toBeNull();
});

test("a second confirmation cancels the first", async () => {
  render(<Confirmation />);
  const first = confirmed("First?", "one", "Do it");
  const second = confirmed("Second?", "two", "Do it");
  expect(await first).toBe(false);
  fireEvent.click(await screen.findByText("Do it"));
  expect(await second).toBe(true);
});
