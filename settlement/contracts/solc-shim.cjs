#!/usr/bin/env node
// forge can't download a compiler here and runs only a native-looking one; this answers for it with npm's solc.
// It speaks the two requests that forge makes: `--version`, and standard JSON on stdin to standard JSON on stdout.
// Sources arrive inline. A source that does not is looked for on disk under the folders named by --base-path and
// --include-path, and nowhere else.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const solc = require("solc");

const args = process.argv.slice(2);

function foldersOf(option) {
  return args.flatMap((arg, i) => (arg === option ? [args[i + 1]] : arg.startsWith(`${option}=`) ? [arg.slice(option.length + 1)] : []));
}

function readImport(name) {
  const folders = [...foldersOf("--base-path"), ...foldersOf("--include-path")];
  const file = folders.map((folder) => path.resolve(folder, name)).find((candidate) => fs.existsSync(candidate));
  return file ? { contents: fs.readFileSync(file, "utf8") } : { error: `${name} is in none of: ${folders.join(", ")}` };
}

if (args.includes("--version")) {
  // forge reads the version with a native compiler's grammar: `0.8.37+commit.abcdef.Linux.g++`.
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version().replace("Emscripten.clang", "Linux.g++")}\n`);
} else if (args.includes("--standard-json")) {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8"), { import: readImport }));
} else {
  process.stderr.write("solc-shim: give --version, or --standard-json with the input on stdin\n");
  process.exitCode = 2;
}
