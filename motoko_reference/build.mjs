// Compiles the reference canisters to Wasm: `node build.mjs [output folder]`, by default `wasm`; or the
// examples that the README shows, by the names of their classes: `node build.mjs --readme <output folder>`.
//
// The compiler is moc as JavaScript, pinned in package-lock.json, with the mo:core that it brings. The
// same sources give the same bytes on every run. The Candid interface is written into each module as
// public metadata `candid:service`, and, for reading, to `<name>.did` beside the canister.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const here = dirname(fileURLToPath(import.meta.url));
const readme = process.argv[2] === "--readme";
const output = resolve(process.argv[readme ? 3 : 2] ?? join(here, "wasm"));

// Canister name -> main file.
const canisters = {
  both: "canisters/Both.mo",
  both_bounty: "canisters/BothBounty.mo",
  both_maf: "canisters/BothMaf.mo",
  both_positional: "canisters/BothPositional.mo",
  echo: "canisters/Echo.mo",
  foreign_maf_receiver: "canisters/ForeignMafReceiver.mo",
  foreign_maf_sender: "canisters/ForeignMafSender.mo",
  player: "canisters/Player.mo",
  player_bounty: "canisters/PlayerBounty.mo",
  player_maf: "canisters/PlayerMaf.mo",
  player_positional: "canisters/PlayerPositional.mo",
  priced: "canisters/Priced.mo",
  priced_bounty: "canisters/PricedBounty.mo",
  priced_maf: "canisters/PricedMaf.mo",
  priced_positional: "canisters/PricedPositional.mo",
  receiver: "canisters/Receiver.mo",
  sender: "canisters/Sender.mo",
  tables: "canisters/Tables.mo",
};
// What tools expect of a network beside the subnets.
const system = {
  cycles_ledger: "system/CyclesLedger.mo",
  cycles_minting: "system/CyclesMinting.mo",
  icp_ledger: "system/IcpLedger.mo",
};
// Compiled to see that it stays right, not kept: what the README shows.
const examples = Object.fromEntries(
  readmeExamples().map((text, number) => [`build/ReadmeExample${number}.mo`, text]),
);

function sources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith(".mo") ? [path] : [];
  });
}

function icWasm() {
  try {
    return require.resolve("@icp-sdk/ic-wasm-linux-x64/bin/ic-wasm");
  } catch {
    console.error(
      "ic-wasm, which shrinks the modules, is published for Linux on x64 only: build the canisters there.\n" +
        "The built ones are in motoko_reference/wasm; only a change of the Motoko sources needs a build.",
    );
    process.exit(1);
  }
}

function readmeExamples() {
  const text = readFileSync(join(here, "README.md"), "utf8");
  const found = [...text.matchAll(/```motoko\n(import [\s\S]*?)```/g)].map(([, code]) => code);
  if (found.length === 0) throw new Error("README.md shows no Motoko example with imports");
  return found;
}

// A compiler that has compiled nothing yet: what it compiled before changes the bytes of what comes after.
function compiler() {
  for (const path of Object.keys(require.cache)) {
    if (path.includes("/motoko/")) delete require.cache[path];
  }
  const made = require("motoko");
  made.loadPackage(require("motoko/packages/latest/core.json"));
  for (const path of ["src", "canisters", "system"].flatMap((folder) => sources(join(here, folder)))) {
    made.write(relative(here, path), readFileSync(path, "utf8"));
  }
  for (const [path, text] of Object.entries(examples)) made.write(path, text);
  made.usePackage("async-flow", "src");
  made.setPublicMetadata(["candid:service"]);
  return made;
}

// A warning is an error too.
function check(mo, mains) {
  let flawed = false;
  for (const main of mains) {
    for (const { source, range, code, message } of mo.check(main)) {
      flawed = true;
      console.error(`${source}:${range.start.line + 1}:${range.start.character + 1}: ${code} ${message}`);
    }
  }
  if (flawed) process.exit(1);
}

const shrinker = icWasm();
const mo = compiler();
const all = [...[canisters, system].flatMap(Object.values), ...Object.keys(examples)];
check(mo, readme ? Object.keys(examples) : all);

mkdirSync(output, { recursive: true });
if (readme) {
  for (const path of Object.keys(examples)) {
    const name = /class (\w+)/.exec(examples[path])[1].toLowerCase();
    writeFileSync(join(output, `${name}.wasm`), mo.wasm(path, "ic").wasm);
  }
  process.exit(0);
}
const sums = [];
function build(mo, table) {
  for (const [name, main] of Object.entries(table)) {
    const raw = join(output, `${name}.raw.wasm`);
    const file = join(output, `${name}.wasm`);
    const { wasm, candid } = mo.wasm(main, "ic");
    writeFileSync(raw, wasm);
    execFileSync(shrinker, [raw, "-o", file, "shrink"], { stdio: ["ignore", "ignore", "inherit"] });
    rmSync(raw);
    writeFileSync(join(here, dirname(main), `${name}.did`), `${(candid ?? mo.candid(main)).trim()}\n`);
    const bytes = readFileSync(file);
    sums.push(`${createHash("sha256").update(bytes).digest("hex")}  ${name}.wasm`);
    console.log(`${name}.wasm  ${bytes.length} bytes`);
  }
}
build(mo, canisters);
const fresh = compiler();
check(fresh, Object.values(system));
build(fresh, system);
writeFileSync(join(output, "SHA256SUMS"), `${sums.join("\n")}\n`);
