/** Links to jobs, in one line. */

import { jobHref } from "../app/route";
import { Name } from "./name";

export function JobLinks({ jobs }: { jobs: string[] }) {
  return (
    <>
      {jobs.map((job, index) => (
        <span key={job}>
          {index > 0 && ", "}
          <a href={jobHref(job)}>
            <Name text={job} />
          </a>
        </span>
      ))}
    </>
  );
}
