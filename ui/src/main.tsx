/** Starts the dashboard: the frame, and the page for the URL. */

import { render, type ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { startKeys } from "./app/keys";
import { route, startRouter } from "./app/router";
import type { Route } from "./app/route";
import { Frame } from "./frame";
import { JobsPage } from "./pages/jobs/jobs-page";
import "./style/base.css";
import "./style/frame.css";
import "./style/components.css";

/** The list of jobs is part of the first bundle; the other pages load on demand. */
const PAGES = {
  job: () => import("./pages/job/job-page").then(({ JobPage }) => named(JobPage)),
  execution: () => import("./pages/execution/execution-page").then(({ ExecutionPage }) => identified(ExecutionPage)),
  now: () => import("./pages/now/now-page").then(({ NowPage }) => NowPage),
  system: () => import("./pages/system/system-page").then(({ SystemPage }) => SystemPage),
};

type Shown = ComponentType<{ route: Route }>;

function named(Page: ComponentType<{ name: string }>): Shown {
  return ({ route }) => (route.page === "job" ? <Page key={route.name} name={route.name} /> : null);
}

function identified(Page: ComponentType<{ id: string }>): Shown {
  return ({ route }) => (route.page === "execution" ? <Page key={route.id} id={route.id} /> : null);
}

function Page() {
  const at = route.value;
  if (at.page === "jobs") return <JobsPage />;
  if (at.page === "unknown") return <Unknown />;
  return <Fetched key={at.page} page={at.page} at={at} />;
}

function Fetched({ page, at }: { page: keyof typeof PAGES; at: Route }) {
  const [Shown, show] = useState<Shown | null>(null);
  const [failed, fail] = useState(false);
  useEffect(() => {
    PAGES[page]().then(
      (found) => show(() => found as Shown),
      () => fail(true),
    );
  }, [page]);
  if (failed)
    return (
      <p class="failure">
        This page could not be loaded. <a href={location.href}>Try again</a>
      </p>
    );
  return Shown && <Shown route={at} />;
}

function Unknown() {
  return (
    <p class="empty">
      There is no such page. <a href="./">All jobs</a>
    </p>
  );
}

startRouter();
startKeys();
render(
  <Frame>
    <Page />
  </Frame>,
  document.getElementById("app")!,
);
