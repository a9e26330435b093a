// Measures @icp-sdk/core: reads the works from standard input, prints the times.
import { readFileSync } from 'node:fs';
import { IDL } from '@icp-sdk/core/candid';
import { Principal } from '@icp-sdk/core/principal';

function build(spelled, knot) {
  const [kind, ...rest] = spelled;
  const fields = () => Object.fromEntries(rest[0].map(([label, part]) => [label, build(part, knot)]));
  switch (kind) {
    case 'opt': return IDL.Opt(build(rest[0], knot));
    case 'vec': return IDL.Vec(build(rest[0], knot));
    case 'record': return IDL.Record(fields());
    case 'variant': return IDL.Variant(fields());
    case 'rec': {
      const own = IDL.Rec();
      own.fill(build(rest[0], own));
      return own;
    }
    case 'self': return knot;
    case 'blob': return IDL.Vec(IDL.Nat8);
    default: return IDL[kind === "null" ? "Null" : kind[0].toUpperCase() + kind.slice(1)];
  }
}

function valueOf(value) {
  if (Array.isArray(value)) return value.map(valueOf);
  if (value === null || typeof value !== 'object') return value;
  if ('hex' in value) return Uint8Array.from(Buffer.from(value.hex, 'hex'));
  if ('principal' in value) {
    return Principal.fromUint8Array(Uint8Array.from(Buffer.from(value.principal, 'hex')));
  }
  if ('int' in value) return BigInt(value.int);
  if ('case' in value) return { [value.case]: valueOf(value.value) };
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, valueOf(one)]));
}

// Processor time in milliseconds, as the other programs measure it; V8's helper threads count.
function spent() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function measure(call, runs = 7, least = 30) {
  for (let i = 0; i < 3; i += 1) call();
  let start = spent();
  call();
  const once = spent() - start;
  const count = Math.max(1, Math.floor(least / Math.max(once, 1e-6)));
  const found = [];
  for (let run = 0; run < runs; run += 1) {
    start = spent();
    for (let i = 0; i < count; i += 1) call();
    found.push(((spent() - start) / count) * 1000);
  }
  found.sort((a, b) => a - b);
  return { best: found[0], median: found[runs >> 1], worst: found[runs - 1] };
}

const found = {};
for (const [name, work] of Object.entries(JSON.parse(readFileSync(0, 'utf8')))) {
  const entry = {};
  try {
    const type = build(work.type);
    const value = valueOf(work.value);
    const data = IDL.encode([type], [value]);
    entry.encode = measure(() => IDL.encode([type], [value]));
    IDL.decode([type], data);
    entry.decode = measure(() => IDL.decode([type], data));
  } catch (error) {
    entry.error = String(error?.message ?? error).slice(0, 100);
  }
  found[name] = entry;
}
process.stdout.write(JSON.stringify(found));
