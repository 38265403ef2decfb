// @vitest-environment happy-dom
import { cleanup, fireEvent, render, screen } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { run, RunForm } from "./run";

const submitted = vi.fn<(body: unknown) => void>();
let described: object;

beforeEach(() =>
  vi.stubGlobal("fetch", async (address: string, { method, body }: RequestInit) => {
    if (method !== "POST") return new Response(JSON.stringify({ job: "j", ...described }));
    submitted(body && JSON.parse(body as string));
    return address.endsWith("/submit") ? new Response('{"id":"e1"}') : new Response("{}", { status: 404 });
  }),
);
afterEach(() => {
  cleanup();
  submitted.mockReset();
  vi.unstubAllGlobals();
});

const SCHEMA = {
  properties: {
    day: { type: "string", format: "date", description: "the day it is of" },
    rows: { type: "integer", minimum: 1, default: 100 },
    dry: { type: "boolean", default: false },
  },
  required: ["day"],
};

test("a job without parameters is submitted at once", async () => {
  described = { params: {}, params_schema: { properties: {} } };
  render(<RunForm />);
  const done = vi.fn();
  await run("j", undefined, done);
  expect(submitted).toHaveBeenCalledWith(undefined);
  expect(done).toHaveBeenCalledWith("e1");
  expect(screen.queryByRole("dialog", { hidden: true })).toBeNull();
});

test("a form requires values, shows their constraints, and sends only changed ones", async () => {
  described = { params: { rows: 100, dry: false }, params_schema: SCHEMA };
  render(<RunForm />);
  await run("j");
  const day = (await screen.findByLabelText(/^day/)) as HTMLInputElement;
  expect(day.type).toBe("date");
  expect(screen.getByText("a whole number, at least 1")).toBeTruthy();
  fireEvent.submit(day.form!);
  expect((await screen.findByText(/parameter day is required/)).getAttribute("role")).toBe("alert");
  expect(submitted).not.toHaveBeenCalled();
  fireEvent.input(day, { target: { value: "2026-11-21" } });
  fireEvent.click(screen.getByLabelText("dry"));
  fireEvent.submit(day.form!);
  await expect.poll(() => submitted.mock.calls).toEqual([[{ params: { day: "2026-11-21", dry: true } }]]);
  await expect.poll(() => screen.queryByLabelText(/^day/)).toBeNull();
});

test("every parameter that the server refuses is marked", async () => {
  described = { params: { rows: 100, dry: false }, params_schema: SCHEMA };
  const errors = [
    { field: "params.day", message: "Invalid date" },
    { field: "params.rows", message: "Expected `int` >= 1" },
    { field: "params.more", message: "there is no such parameter" },
  ];
  vi.stubGlobal("fetch", async (_: string, { method }: RequestInit) =>
    method === "POST"
      ? new Response(JSON.stringify({ error: { code: "invalid-params", message: "3 are wrong", field: "params.day", errors } }), { status: 422 })
      : new Response(JSON.stringify({ job: "j", ...described })),
  );
  render(<RunForm />);
  await run("j", { day: "2026-11-21" });
  const day = (await screen.findByLabelText(/^day/)) as HTMLInputElement;
  fireEvent.submit(day.form!);
  expect((await screen.findByRole("alert", { hidden: true })).textContent).toBe(
    "Not submitted: 3 parameters are wrong. more: there is no such parameter",
  );
  expect(day.closest("label")!.textContent).toContain("Invalid date");
  expect(screen.getByText("Expected `int` >= 1").closest("label")!.textContent).toMatch(/^rows/);
});

test("a job without declared parameters has a JSON field with the given values", async () => {
  described = { params: null };
  render(<RunForm />);
  await run("j", { country: "de" });
  const text = (await screen.findByLabelText(/^parameters/)) as HTMLTextAreaElement;
  expect(JSON.parse(text.value)).toEqual({ country: "de" });
  fireEvent.submit(text.form!);
  await expect.poll(() => submitted.mock.calls).toEqual([[{ params: { country: "de" } }]]);
});
