/** How the server is: what it holds, how loaded it is, and how it has been. */

export function SystemPage() {
  return <h1>System</h1>;
}
