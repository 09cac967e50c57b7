// graphql-ws, the client most front ends use: queries, mutations and subscriptions over one socket, and how errors come.
import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, key] = process.argv.slice(2);
const seen = { closed: [] };
const client = createClient({
  url: url.replace(/^http/, "ws"),
  webSocketImpl: WebSocket,
  connectionParams: key ? { authorization: `Bearer ${key}` } : undefined,
  lazy: false,
  keepAlive: 50,
  retryAttempts: 0,
  on: { pong: () => (seen.pong = true, seen.ponged?.()), closed: (event) => seen.closed.push(event.code) },
});

async function one(payload) {
  for await (const result of client.iterate(payload)) return result;
}

assert.equal((await one({ query: "{ viewer { role } }" })).data.viewer.role, "ADMIN");
const created = await one({ query: 'mutation { createGoal(input: { name: "By socket" }) { goal { id } } }' });
assert.match(created.data.createGoal.goal.id, /^goal_/);

// A document that does not validate is an `error`, which ends the operation and not the socket.
await assert.rejects(one({ query: "{ nothing }" }), (errors) => errors[0].extensions.code === "BAD_USER_INPUT");
await assert.rejects(one({ query: "subscription { a: events { cursor } b: events { cursor } }" }), (errors) => /one root field/.test(errors[0].message));

// What happens while a subscription stands comes in order, and again from a cursor.
const query = 'subscription($after: String) { events(filter: { kinds: ["record.created"] }, after: $after) { cursor recordId } }';
const live = client.iterate({ query });
const first = live.next();
const records = [];
const make = async (n) => {
  const made = await one({ query: `mutation { createRecord(input: { kind: "lead", name: "By socket ${n}" }) { record { id } } }` });
  records.push(made.data.createRecord.record.id);
};
await make(0);
await make(1);
await make(2);
const got = [(await first).value.data.events];
while (got.length < 3) got.push((await live.next()).value.data.events);
assert.deepEqual(got.map((event) => event.recordId), records);
await live.return();
const again = [];
for await (const result of client.iterate({ query, variables: { after: got[0].cursor } })) {
  again.push(result.data.events.recordId);
  if (again.length === 2) break;
}
assert.deepEqual(again, records.slice(1));

// The server answers the protocol's own pings.
if (!seen.pong) await new Promise((resolve) => (seen.ponged = resolve));
await client.dispose();
console.log("graphql-ws works");
