// Measures the JavaScript agent, which verifies certificates and query signatures.
import { readFileSync } from "node:fs";
import { Actor, HttpAgent } from "@icp-sdk/core/agent";
import { Ed25519KeyIdentity } from "@icp-sdk/core/identity";

const work = JSON.parse(readFileSync(0, "utf8"));
const agent = await HttpAgent.create({
  host: work.url,
  identity: Ed25519KeyIdentity.generate(),
  shouldFetchRootKey: true,
  verifyQuerySignatures: true,
});
const actor = Actor.createActor(
  ({ IDL }) =>
    IDL.Service({ greet: IDL.Func([], [], []), peek: IDL.Func([], [], ["query"]) }),
  { agent, canisterId: work.canister_id },
);

async function sequence(count, call) {
  for (let i = 0; i < 10; i++) await call();
  const times = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await call();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(count / 2)] / 1000;
}

const query = await sequence(work.queries, () => actor.peek());
const call = await sequence(work.updates, () => actor.greet());
console.log(JSON.stringify({ query, call }));
