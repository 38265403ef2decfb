/** What runs, what waits and why, and what comes next, across all jobs. */

export function NowPage() {
  return <h1>Now</h1>;
}
