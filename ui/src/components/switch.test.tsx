// @vitest-environment happy-dom
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Notices } from "../app/notices";
import { LiveJob } from "../model/live";
import { Switch } from "./switch";

const fetchMock = vi.fn<(address: string, options: RequestInit) => Response>();

beforeEach(() => vi.stubGlobal("fetch", async (address: string, options: RequestInit) => fetchMock(address, options)));
afterEach(() => {
  cleanup();
  fetchMock.mockReset();
  vi.unstubAllGlobals();
});

/** A server that accepts or refuses requests. */
const willing = (_: string, { body }: RequestInit) => new Response(body as string);

test("the switch changes after the response, with a message and undo", async () => {
  fetchMock.mockImplementation(willing);
  render([<Switch job={new LiveJob("a/b")} />, <Notices />]);
  const turned = () => screen.getByRole("switch").getAttribute("aria-checked");
  fireEvent.click(screen.getByRole("switch"));
  expect(turned()).toBe("false");
  fireEvent.click(await screen.findByRole("button", { name: "Undo" }));
  expect(fetchMock.mock.calls[0]![0]).toMatch(/\/api\/jobs\/a%2Fb\/toggle$/);
  await expect.poll(() => fetchMock.mock.calls.map(([, { body }]) => body)).toEqual(['{"active":true}', '{"active":false}']);
  await expect.poll(turned).toBe("false");
});

test("a refused switch does not change, and shows the reason", async () => {
  fetchMock.mockReturnValue(new Response('{"error":{"message":"the disk is full"}}', { status: 503 }));
  render([<Switch job={new LiveJob("j")} />, <Notices />]);
  fireEvent.click(screen.getByRole("switch"));
  expect((await screen.findByText(/the disk is full/)).className).toContain("bad");
  expect(screen.getByRole("switch").getAttribute("aria-checked")).toBe("false");
});
