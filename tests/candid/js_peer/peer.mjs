// Reads one JSON question a line, answers with one JSON line: what the JavaScript implementation of
// Candid makes of it. A type comes as nested lists, such as ["record", [[97, ["nat"]]]]; recursive
// types as ["rec", number], defined in "defs". An answer is {"ok": ...} or {"error": "..."}.
import { createInterface } from 'node:readline';
import { IDL } from '@icp-sdk/core/candid';

const primitives = {
  null: IDL.Null, bool: IDL.Bool, nat: IDL.Nat, int: IDL.Int, text: IDL.Text,
  nat8: IDL.Nat8, nat16: IDL.Nat16, nat32: IDL.Nat32, nat64: IDL.Nat64,
  int8: IDL.Int8, int16: IDL.Int16, int32: IDL.Int32, int64: IDL.Int64,
  float32: IDL.Float32, float64: IDL.Float64,
  reserved: IDL.Reserved, empty: IDL.Empty, principal: IDL.Principal,
};

function build(type, knots) {
  const [kind, ...parts] = type;
  const fields = (list) =>
    Object.fromEntries(list.map(([id, part]) => [`_${id}_`, build(part, knots)]));
  switch (kind) {
    case 'opt': return IDL.Opt(build(parts[0], knots));
    case 'vec': return IDL.Vec(build(parts[0], knots));
    case 'record': return IDL.Record(fields(parts[0]));
    case 'variant': return IDL.Variant(fields(parts[0]));
    case 'func': return IDL.Func(
      parts[0].map((one) => build(one, knots)), parts[1].map((one) => build(one, knots)), parts[2]);
    case 'service': return IDL.Service(
      Object.fromEntries(parts[0].map(([name, part]) => [name, build(part, knots)])));
    case 'rec': return knots[parts[0]];
    default: return primitives[kind];
  }
}

function types(question, key) {
  const knots = question.defs.map(() => IDL.Rec());
  question.defs.forEach((one, index) => knots[index].fill(build(one, knots)));
  return question[key].map((one) => build(one, knots));
}

function answer(question) {
  if (question.op === 'recode') {
    const found = types(question, 'types');
    const values = IDL.decode(found, Uint8Array.from(Buffer.from(question.data, 'hex')));
    return Buffer.from(IDL.encode(found, values)).toString('hex');
  }
  if (question.op === 'subtype') {
    const left = types(question, 'left');
    const right = types(question, 'right');
    return left.map((one, index) => {
      IDL.resetSubtypeCache?.();
      return IDL.subtype(one, right[index]);
    });
  }
  throw new Error(`no such question: ${question.op}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  let out;
  try {
    out = { ok: answer(JSON.parse(line)) };
  } catch (error) {
    out = { error: String(error?.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(out)}\n`);
}
