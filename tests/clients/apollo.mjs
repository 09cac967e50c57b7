// Apollo Client: Relay-style paging into its cache over HTTP, persisted queries, and subscriptions over graphql-ws.
import assert from "node:assert/strict";
// Apollo 3 warns of what will be gone in its next version; that is between it and its users.
console.error = () => {};
console.warn = () => {};
import { createHash } from "node:crypto";
import apollo from "@apollo/client/core/core.cjs";
import links from "@apollo/client/link/persisted-queries/persisted-queries.cjs";
import subscriptions from "@apollo/client/link/subscriptions/subscriptions.cjs";
import utilities from "@apollo/client/utilities/utilities.cjs";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, key] = process.argv.slice(2);
const headers = key ? { authorization: `Bearer ${key}` } : {};
const asked = [];
const http = new apollo.HttpLink({
  uri: url,
  headers,
  fetch: (to, init) => {
    asked.push(JSON.parse(init.body));
    return fetch(to, init);
  },
});
const persisted = links.createPersistedQueryLink({ sha256: (text) => createHash("sha256").update(text).digest("hex") });
const socket = createClient({ url: url.replace(/^http/, "ws"), webSocketImpl: WebSocket, connectionParams: headers });
const cache = new apollo.InMemoryCache({
  typePolicies: { Query: { fields: { records: utilities.relayStylePagination(["filter", "orderBy"]) } } },
});
const client = new apollo.ApolloClient({
  cache,
  link: apollo.split(
    ({ query }) => utilities.getMainDefinition(query).operation === "subscription",
    new subscriptions.GraphQLWsLink(socket),
    persisted.concat(http),
  ),
});

const total = 23;
const make = apollo.gql`mutation Make($input: CreateRecordInput!) { createRecord(input: $input) { record { id name } } }`;
for (let n = 0; n < total; n += 1) {
  await client.mutate({ mutation: make, variables: { input: { kind: "paged", name: `Paged ${n}` } } });
}
assert.ok(asked.some((body) => !body.query) && asked.filter((body) => body.query).length <= 1, "the document went once, then its hash");

const page = apollo.gql`query Page($first: Int!, $after: String) {
  records(filter: { kind: { eq: "paged" } }, first: $first, after: $after) {
    edges { cursor node { id name } } pageInfo { hasNextPage endCursor } totalCount
  }
}`;
const watched = client.watchQuery({ query: page, variables: { first: 5 } });
let result = await watched.result();
while (result.data.records.pageInfo.hasNextPage) {
  await watched.fetchMore({ variables: { first: 5, after: result.data.records.pageInfo.endCursor } });
  result = watched.getCurrentResult();
}
const names = result.data.records.edges.map((edge) => edge.node.name);
assert.equal(result.data.records.totalCount, total);
assert.deepEqual([...names].sort(), Array.from({ length: total }, (_, n) => `Paged ${n}`).sort());

const events = client.subscribe({ query: apollo.gql`subscription { events(filter: { kinds: ["record.created"] }) { recordId } }` });
const came = new Promise((resolve, reject) => events.subscribe({ next: resolve, error: reject }));
let done = false;
came.then(() => (done = true));
for (let n = 0; !done; n += 1) {
  await client.mutate({ mutation: make, variables: { input: { kind: "live", name: `Live ${n}` } } });
}
assert.match((await came).data.events.recordId, /^record_/);
client.stop();
await socket.dispose();
console.log("Apollo works");
