import { describe, expect, test } from "vitest";
import { executionHref, jobHref, routeOf, withChoices } from "./route";

describe("addresses", () => {
  test.each(["plain", "a/b", "<b>&\"'", "100%", "%2F", "مرحبا", "a b?c#d", "日本語"])("%s names a page and comes back", (name) => {
    const at = (href: string) => routeOf(new URL(href, "http://host/some/where/ui/").pathname, "/some/where/ui/");
    expect(at(jobHref(name))).toEqual({ page: "job", name });
    expect(at(executionHref(name))).toEqual({ page: "execution", id: name });
  });

  test("an unknown path is recognised", () => {
    expect(routeOf("/ui/", "/ui/")).toEqual({ page: "jobs" });
    expect(routeOf("/ui/now", "/ui/")).toEqual({ page: "now" });
    for (const path of ["/ui/jobs/", "/ui/else", "/ui/executions/", "/ui/jobs/%E0%A4%A", "/api/jobs"])
      expect(routeOf(path, "/ui/")).toEqual({ page: "unknown" });
  });

  test("a choice is set, replaced and removed", () => {
    expect(withChoices("", { last: "50" })).toBe("?last=50");
    expect(withChoices("?last=50&task=a%20b", { last: "10" })).toBe("?last=10&task=a+b");
    expect(withChoices("?last=50", { last: null, task: null })).toBe("");
  });
});
