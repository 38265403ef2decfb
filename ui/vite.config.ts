import { defineConfig } from "vite";

import { notices } from "./notices";

// The build is served under any path by the Python package: every address it contains is
// relative, and nothing is inlined, so that it runs under a policy without 'unsafe-inline'.
//
// `npm run dev` serves the page below /ui/, as the package does, and hands requests for data
// to the server that `goflow demo` runs.
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
