/** Starts the page that the address names. */

import { render } from "preact";
import { JobPage } from "./job-page";
import { JobView } from "./job-view";
import { JobsPage, startJobsPage } from "./jobs-page";
import { Notices } from "./notice";
import { routeOf } from "./route";
import "./style.css";

const route = routeOf(location.pathname, new URL(document.baseURI).pathname);

const view = route.page === "job" ? new JobView(route.name) : null;

function Page() {
  return (
    <>
      <nav class="brand">
        <div>
          <a href="./">
            <img src="./favicon.svg" alt="" width="24" height="24" />
            goflow
          </a>
        </div>
      </nav>
      <main>
        {route.page === "jobs" && <JobsPage />}
        {view && <JobPage view={view} />}
        {route.page === "unknown" && (
          <p class="empty">
            There is no such page. <a href="./">All jobs</a>
          </p>
        )}
      </main>
      <Notices />
    </>
  );
}

if (route.page === "jobs") startJobsPage();
view?.start();
render(<Page />, document.getElementById("app")!);
