/** Links to the executions that tasks have started. */

import { executionHref } from "../../app/route";
import { Name } from "../../components/name";
import type { ExecutionDetail } from "../../api/client";

const MANY = 5; // executions that are listed

/** The newest first. */
export function Children({ started }: { started: ExecutionDetail["children"] }) {
  return (
    <p class="waits">
      Started{" "}
      {started.slice(-MANY).reverse().map(({ execution, job, task }) => (
        <a class="id" key={execution} href={executionHref(execution)} title={`By task ${task}`}>
          <Name text={job} /> <code>{execution}</code>
        </a>
      ))}
      {started.length > MANY && ` and ${started.length - MANY} more`}
    </p>
  );
}
