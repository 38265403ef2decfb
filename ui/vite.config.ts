import { defineConfig } from "vite";

import { notices } from "./notices";

// The Python package serves the build under any path, so all its URLs are relative. Nothing is
// inlined, so that it works with a policy without 'unsafe-inline'.
//
// `npm run dev` serves the page at /ui/, like the package, and proxies API requests to the server
// of `goflow demo`.
const server = "http://localhost:8181";
const proxied = { target: server, changeOrigin: true, headers: { origin: server } };

export default defineConfig(({ command }) => ({
  base: command === "serve" ? "/ui/" : "./",
  plugins: [
    notices(import.meta.dirname, "third-party.txt"),
    {
      name: "base-while-developing",
      apply: "serve",
      transformIndexHtml: (html) => html.replace('<base href="./" />', '<base href="/ui/" />'),
    },
  ],
  server: { proxy: { "/api": proxied, "/stream": proxied } },
  build: {
    outDir: "../goflow/web/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    sourcemap: false,
  },
}));
