import { render } from "preact";

render(<h1>goflow</h1>, document.getElementById("app")!);
