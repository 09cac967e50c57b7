// Follows the log over a WebSocket with graphql-ws, through reconnects, without missing an event or seeing one twice. It needs
// Node 20 or later. It prints a line for each failed try and tries again, and ends when the server refuses the key (4403).
//
//   npm install graphql-ws ws
//   node examples/client-ws.mjs http://127.0.0.1:4000/graphql [key]
//
// graphql-ws reconnects by itself and sends the payload that it was given again. It is the same object each time, so what is
// written into its variables is what the next subscription begins with: the cursor of the newest item.
import { fileURLToPath } from "node:url";

/** Subscribes with `client`, a graphql-ws client. The document must take `$after` and select `cursor`. Returns what ends it. */
export function follow(client, { query, variables = {} }, { next, error = console.error, complete = () => {} }) {
  const payload = { query, variables: { ...variables } };
  return client.subscribe(payload, {
    next(result) {
      // One root field; its item carries the cursor to go on behind.
      const item = result.data && Object.values(result.data)[0];
      next(result);
      if (item?.cursor) payload.variables.after = item.cursor;
    },
    error(errors) {
      // A database that was restored from a backup does not know the cursor: read anew what you show, and begin without it.
      const beyond = Array.isArray(errors) && errors.some((one) => one.extensions?.reason === "BEYOND_END");
      if (beyond) delete payload.variables.after;
      error(errors, { beyond });
    },
    complete,
  });
}

/** A line for an end of the connection: a close of the socket, an error of the network, or errors of the operation. */
function reason(err) {
  if (Array.isArray(err)) return err.map((one) => one.message).join("; ");
  if (err?.code && "reason" in err) return `closed: ${err.code} ${err.reason}`.trim();
  return String(err?.error?.message || err?.error?.code || err?.message || err);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { createClient } = await import("graphql-ws");
  const { default: webSocketImpl } = await import("ws");
  const [url = "http://127.0.0.1:4000/graphql", key] = process.argv.slice(2);
  const refused = (err) => err?.code === 4403;
  const client = createClient({
    url: url.replace(/^http/, "ws"),
    webSocketImpl,
    connectionParams: key ? { authorization: `Bearer ${key}` } : undefined,
    retryAttempts: Infinity,
    shouldRetry(err) {
      // graphql-ws asks after each failed try. A missing, wrong or revoked key stays so: the program ends.
      if (!refused(err)) console.error(`${url}: ${reason(err)}; trying again`);
      return !refused(err);
    },
  });
  const query = "subscription ($after: String) { events(after: $after) { cursor kind at } }";
  follow(client, { query }, {
    next: ({ data }) => console.log(data.events.at, data.events.kind),
    error(err) {
      console.error(reason(err));
      process.exitCode = 1;
      client.dispose();
    },
  });
}
