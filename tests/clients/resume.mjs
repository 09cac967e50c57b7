// The example for graphql-ws, cut off again and again while records are made: each is heard of once, in order.
import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { follow } from "../../examples/client-ws.mjs";

const [url, key] = process.argv.slice(2);
const authorization = key ? { authorization: `Bearer ${key}` } : {};
let socket;
class Seen extends WebSocket {
  constructor(...args) {
    super(...args);
    socket = this;
  }
}
const client = createClient({
  url: url.replace(/^http/, "ws"),
  webSocketImpl: Seen,
  connectionParams: key ? authorization : undefined,
  retryAttempts: Infinity,
  retryWait: async () => {},
});
const ask = async (query) => {
  const headers = { "content-type": "application/json", ...authorization };
  const answer = await (await fetch(url, { method: "POST", headers, body: JSON.stringify({ query }) })).json();
  assert.equal(answer.errors, undefined, JSON.stringify(answer));
  return answer.data;
};
const heard = [];
let wake = () => {};
const query = 'subscription ($after: String) { events(filter: { kinds: ["record.created"] }, after: $after) { cursor recordId } }';
const { cursor } = (await ask("{ viewer { cursor } }")).viewer;
const end = follow(client, { query, variables: { after: cursor } }, {
  next: ({ data }) => (heard.push(data.events.recordId), wake()),
  error: (errors) => assert.fail(JSON.stringify(errors)),
});
const made = [];
for (let n = 0; n < 9; n += 1) {
  const { createRecord } = await ask(`mutation { createRecord(input: { kind: "lead", name: "Cut ${n}" }) { record { id } } }`);
  made.push(createRecord.record.id);
  if (n % 3 === 2) {
    while (heard.length < made.length) await new Promise((resolve) => (wake = resolve));
    // Without a word, as a network goes away.
    socket.terminate();
  }
}
while (heard.length < made.length) await new Promise((resolve) => (wake = resolve));
assert.deepEqual(heard, made);
end();

// A cursor from beyond the end of the log is told apart, so that a program can begin anew.
const beyond = Buffer.from("event:1000000").toString("base64url");
const told = await new Promise((resolve) => {
  follow(client, { query, variables: { after: beyond } }, { next: () => assert.fail("an item"), error: (_, why) => resolve(why) });
});
assert.deepEqual(told, { beyond: true });
await client.dispose();
console.log("the example for graphql-ws resumes");
