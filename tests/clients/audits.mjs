// The audits of GraphQL over HTTP, as the graphql-http project publishes them: all of them must pass.
import { auditServer } from "graphql-http";

const [url, key] = process.argv.slice(2);
const results = await auditServer({
  url,
  fetchFn: (to, init = {}) =>
    fetch(to, { ...init, headers: { ...init.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) } }),
});
let failed = 0;
for (const result of results) {
  if (result.status !== "ok") {
    failed += 1;
    console.log(`${result.status}: ${result.id} ${result.name}: ${result.reason}`);
  }
}
console.log(`${results.length} audits, ${failed} failed`);
process.exit(results.length === 61 && failed === 0 ? 0 : 1);
