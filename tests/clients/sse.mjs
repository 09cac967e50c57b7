// graphql-sse in both modes: a stream for each operation, and one stream for all.
import assert from "node:assert/strict";
import { createClient } from "graphql-sse";

const [url, key] = process.argv.slice(2);

// Disposing of a client aborts its requests to end the operations, which nothing in the library waits for.
process.on("unhandledRejection", (err) => {
  if (err.name !== "AbortError") throw err;
});

const headers = key ? { authorization: `Bearer ${key}` } : {};

for (const singleConnection of [false, true]) {
  const client = createClient({ url: `${url}/stream`, singleConnection, headers, retryAttempts: 0 });
  const one = async (payload) => {
    for await (const result of client.iterate(payload)) return result;
  };
  assert.equal((await one({ query: "{ viewer { role } }" })).data.viewer.role, "ADMIN");
  const wrong = await one({ query: "{ nothing }" }).catch((err) => ({ errors: [err] }));
  assert.ok(wrong.errors.length > 0, "a wrong document is told");

  const query = 'subscription($after: String) { events(filter: { kinds: ["record.created"] }, after: $after) { cursor recordId } }';
  const live = client.iterate({ query });
  const next = live.next();
  const records = [];
  // The stream stands once it was answered: what is made before may be missed, so it is made until something comes.
  let came;
  next.then((item) => (came = item));
  for (let n = 0; !came; n += 1) {
    const made = await one({ query: `mutation { createRecord(input: { kind: "lead", name: "By stream ${n}" }) { record { id } } }` });
    records.push(made.data.createRecord.record.id);
  }
  assert.ok(records.includes(came.value.data.events.recordId));
  await live.return();
  const again = client.iterate({ query, variables: { after: came.value.data.events.cursor } });
  const made = await one({ query: 'mutation { createRecord(input: { kind: "lead", name: "Last" }) { record { id } } }' });
  for await (const result of again) if (result.data.events.recordId === made.data.createRecord.record.id) break;
  client.dispose();
  console.log(`graphql-sse works, ${singleConnection ? "one stream for all" : "a stream for each"}`);
}
// An aborted request may leave a connection that keeps the process running.
process.exit(0);
