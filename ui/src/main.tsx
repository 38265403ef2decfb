/** Starts the page that the address names. */

import { render } from "preact";
import { JobPage, startJobPage } from "./job-page";
import { JobsPage, startJobsPage } from "./jobs-page";
import { Notices } from "./notice";
import { routeOf } from "./route";
import "./style.css";

const route = routeOf(location.pathname, new URL(document.baseURI).pathname);

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
        {route.page === "job" && <JobPage name={route.name} />}
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
if (route.page === "job") startJobPage(route.name);
render(<Page />, document.getElementById("app")!);
