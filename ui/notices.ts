import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import type { Plugin } from "vite";

// Adds the license notices of bundled packages to the bundle, as the licenses require. A bundled
// package without a license file fails the build.

const HEAD = "The dashboard contains code of these packages, each under its own license.";
const LICENSE = /^(licen[cs]e|copying|notice)(\.(md|txt))?$/i;
// Code added by the build tools: the loaders of chunks (Vite) and modules (Rolldown).
const ADDED: [RegExp, string][] = [
  [/^\0vite\//, "vite"],
  [/^\0rolldown\//, "rolldown"],
];
// The rest of a build tool's license file is about code that is not in the bundle.
const OF_THE_TOOL = /^#+ Licenses of bundled dependencies/m;

export function notices(root: string, fileName: string): Plugin {
  const modules = join(root, "node_modules");
  return {
    name: "notices-of-bundled-packages",
    apply: "build",
    generateBundle(_, bundle) {
      const packages = new Set<string>();
      for (const output of Object.values(bundle)) {
        if (output.type !== "chunk") continue;
        for (const id of Object.keys(output.modules)) {
          const added = ADDED.find(([pattern]) => pattern.test(id));
          if (added) packages.add(join(modules, added[1]));
          else addPackage(packages, packageOf(id), modules);
        }
      }
      const texts = [...packages].sort().map(noticeOf);
      const source = [HEAD, ...texts].join(`\n\n${"-".repeat(78)}\n\n`);
      this.emitFile({ type: "asset", fileName, source });
    },
  };
}

/** The folder of the package that a module is from; the last one, as packages may hold others. */
function packageOf(id: string): string | undefined {
  return id.match(/^.*\/node_modules\/(@[^/]+\/)?[^/]+(?=\/)/)?.[0];
}

/** Adds a package and what it depends on, which may have been bundled into it before. */
function addPackage(packages: Set<string>, folder: string | undefined, modules: string): void {
  if (!folder || packages.has(folder)) return;
  packages.add(folder);
  for (const name of Object.keys(described(folder).dependencies ?? {})) {
    const places = [join(folder, "node_modules", name), join(modules, name)];
    addPackage(packages, places.find(existsSync), modules);
  }
}

function noticeOf(folder: string): string {
  const { name, version } = described(folder);
  const files = readdirSync(folder).filter((file) => LICENSE.test(file));
  if (!files.length) throw new Error(`${name} is bundled, and has no license file`);
  const texts = files.sort().map((file) => readFileSync(join(folder, file), "utf8"));
  return [`${name} ${version}`, ...texts.map((text) => text.split(OF_THE_TOOL)[0]?.trim())].join("\n\n");
}

function described(folder: string) {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}
