// @vitest-environment happy-dom
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Notices } from "../app/notices";
import { JobCell } from "../model/board";
import { Switch } from "./switch";

const asked = vi.fn<(address: string, options: RequestInit) => Response>();

beforeEach(() => vi.stubGlobal("fetch", async (address: string, options: RequestInit) => asked(address, options)));
afterEach(() => {
  cleanup();
  asked.mockReset();
  vi.unstubAllGlobals();
});

/** A server that does as it is told. */
const willing = (_: string, { body }: RequestInit) => new Response(body as string);

test("the switch turns when the server has said so, says it, and is turned back by Undo", async () => {
  asked.mockImplementation(willing);
  render([<Switch job={new JobCell("a/b")} />, <Notices />]);
  const turned = () => screen.getByRole("switch").getAttribute("aria-checked");
  fireEvent.click(screen.getByRole("switch"));
  expect(turned()).toBe("false");
  fireEvent.click(await screen.findByRole("button", { name: "Undo" }));
  expect(asked.mock.calls[0]![0]).toMatch(/\/api\/jobs\/a%2Fb\/toggle$/);
  await expect.poll(() => asked.mock.calls.map(([, { body }]) => body)).toEqual(['{"active":true}', '{"active":false}']);
  await expect.poll(turned).toBe("false");
});

test("a switch that the server refuses stays, and the reason is said", async () => {
  asked.mockReturnValue(new Response('{"error":{"message":"the disk is full"}}', { status: 503 }));
  render([<Switch job={new JobCell("j")} />, <Notices />]);
  fireEvent.click(screen.getByRole("switch"));
  expect((await screen.findByText(/the disk is full/)).className).toContain("bad");
  expect(screen.getByRole("switch").getAttribute("aria-checked")).toBe("false");
});
