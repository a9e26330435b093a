// Does with the official JavaScript agent what each line asks, and answers in one line of JSON:
// {"ok": ...} or {"error": {"name", "message"}}. Bytes go as hexadecimal digits. Certificates and query
// signatures are verified as the agent does by itself.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { createInterface } from 'node:readline';
import {
  CanisterStatus, flatten_forks, HttpAgent, IC_ROOT_KEY, SubnetStatus,
} from '@icp-sdk/core/agent';
import {
  DelegationChain, DelegationIdentity, ECDSAKeyIdentity, Ed25519KeyIdentity, WebAuthnIdentity,
} from '@icp-sdk/core/identity';
import { Secp256k1KeyIdentity } from '@icp-sdk/core/identity/secp256k1';
import { Principal } from '@icp-sdk/core/principal';

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'));
const hex = (data) => Buffer.from(data).toString('hex');
const agents = new Map();

// An authenticator as browsers have it, with one key.
function webAuthn() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x, y } = publicKey.export({ format: 'jwk' });
  const cose = Buffer.concat([
    Buffer.from('a5010203262001215820', 'hex'), Buffer.from(x, 'base64url'),
    Buffer.from('225820', 'hex'), Buffer.from(y, 'base64url'),
  ]);
  const get = async ({ publicKey: { challenge } }) => {
    const told = Buffer.from(JSON.stringify({
      type: 'webauthn.get', challenge: Buffer.from(challenge).toString('base64url'), origin: 'https://x',
    }));
    const authenticatorData = Buffer.alloc(37);
    const digest = createHash('sha256').update(told).digest();
    const signature = sign('sha256', Buffer.concat([authenticatorData, digest]), privateKey);
    const [data, words, proof] = [authenticatorData, told, signature].map((one) => Uint8Array.from(one));
    return { response: { authenticatorData: data, clientDataJSON: words, signature: proof } };
  };
  Object.defineProperty(globalThis, 'navigator', { value: { credentials: { get } }, configurable: true });
  return new WebAuthnIdentity(new Uint8Array(16), Uint8Array.from(cose), undefined);
}

async function identity({ kind, seed, chain = 1, targets, permissions, expired = false }) {
  switch (kind) {
    case 'anonymous': return undefined;
    case 'ed25519': return Ed25519KeyIdentity.generate(bytes(seed));
    case 'secp256k1': return Secp256k1KeyIdentity.fromSecretKey(bytes(seed));
    case 'p256': return ECDSAKeyIdentity.generate({ extractable: true });
    case 'webauthn': return webAuthn();
    case 'delegated': {
      let owner = Secp256k1KeyIdentity.fromSecretKey(bytes(seed));
      let previous;
      for (let link = 0; link < chain; link++) {
        const next = Ed25519KeyIdentity.generate();
        const until = new Date(Date.now() + (expired ? -60_000 : 600_000));
        previous = await DelegationChain.create(owner, next.getPublicKey(), until, {
          previous, targets: targets?.map((one) => Principal.fromText(one)), permissions,
        });
        owner = next;
      }
      return DelegationIdentity.fromDelegation(owner, previous);
    }
    default: throw new Error(`no such identity: ${kind}`);
  }
}

const operations = {
  async connect({ name, url, rootKey, who }) {
    const agent = await HttpAgent.create({
      host: url, identity: await identity(who), rootKey: bytes(rootKey ?? IC_ROOT_KEY),
      verifyQuerySignatures: true, retryTimes: 0,
    });
    agents.set(name, agent);
    return (await agent.getPrincipal()).toText();
  },

  async update({ agent, canister, method, arg, effective, sync = true }) {
    let polled = false;
    const result = await agents.get(agent).update(canister, {
      methodName: method, arg: bytes(arg), effectiveTarget: { canisterId: effective ?? canister },
      callSync: sync, onPollingStarted: () => { polled = true; },
    }, { strategy: () => new Promise((resolve) => setTimeout(resolve, 20)) });
    return { reply: hex(result.reply), status: result.callResponse.status, polled };
  },

  async query({ agent, canister, method, arg }) {
    const answer = await agents.get(agent).query(canister, { methodName: method, arg: bytes(arg) });
    return {
      status: answer.status,
      reply: answer.reply && hex(answer.reply.arg),
      code: answer.reject_code,
      message: answer.reject_message,
      signatures: answer.signatures?.length ?? 0,
    };
  },

  async state({ agent, canister, sections }) {
    const canisterId = Principal.fromText(canister);
    const custom = sections.map((name) => new CanisterStatus.CustomPath(name, name, 'utf-8'));
    const found = await CanisterStatus.request({
      canisterId, agent: agents.get(agent),
      paths: ['time', 'controllers', 'module_hash', 'subnet', ...custom.map((one) => ({
        kind: 'metadata', key: one.key, path: one.path, decodeStrategy: 'utf-8',
      }))],
    });
    return {
      time: found.get('time')?.getTime(),
      controllers: found.get('controllers')?.map((one) => one.toText()),
      hash: found.get('module_hash'),
      subnet: found.get('subnet')?.subnetId,
      nodes: [...(found.get('subnet')?.nodeKeys.keys() ?? [])],
      sections: sections.map((name) => found.get(name)),
    };
  },

  async subnet({ agent, canister }) {
    const client = agents.get(agent);
    const subnetId = await client.getSubnetIdFromCanister(canister);
    const found = await SubnetStatus.request({
      subnetId, agent: client, paths: ['time', 'publicKey', 'nodeKeys'],
    });
    // The sharded layout; this client's own path for ranges is the older one.
    const path = [Buffer.from('canister_ranges'), subnetId.toUint8Array()];
    const answer = await client.readState({ subnetId }, { paths: [path] });
    const shards = flatten_forks(answer.verifiedCertificate.lookup_subtree(path).value);
    return {
      id: subnetId.toText(),
      shards: shards.map(([, label, leaf]) => [hex(label), hex(leaf[1])]),
      key: hex(found.get('publicKey')),
      nodes: [...found.get('nodeKeys').keys()],
    };
  },

  async read({ agent, canister, path }) {
    const labels = path.map(bytes);
    const answer = await agents.get(agent).readState({ canisterId: canister }, { paths: [labels] });
    const found = answer.verifiedCertificate.lookup_path(labels);
    return { status: found.status, value: found.value && hex(found.value) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...asked } = JSON.parse(line);
  let out;
  try {
    out = { ok: await operations[op](asked) };
  } catch (error) {
    out = { error: { name: error?.name ?? '', message: String(error?.message ?? error) } };
  }
  process.stdout.write(`${JSON.stringify(out)}\n`);
}
