// The connection to Sortie: typed requests that are repeated while the server is away, and subscriptions that survive cuts.
import { createClient, type Client } from "graphql-ws";
import WebSocket from "ws";
import type { TypedDocumentString } from "./gql/graphql.js";

/** One entry of a response's `errors`; docs/api.md lists the members of `extensions`. */
export interface GraphqlError {
  message: string;
  extensions?: { code?: string; field?: string; reason?: string; retryAfterSeconds?: number; cursor?: string };
}

/** Errors with which the server answered a request or ended a subscription. */
export class RequestFailed extends Error {
  constructor(readonly errors: readonly GraphqlError[]) {
    super(errors.map(({ message, extensions }) => `${extensions?.code ?? "ERROR"}: ${message}`).join("; "));
  }
}

type Variables = Record<string, unknown>;

const ATTEMPTS = 20;
const PING_MILLIS = 10_000;

export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis));

export class Sortie {
  readonly #client: Client;
  #socket: WebSocket | undefined;

  constructor(
    readonly url: string,
    readonly key: string | undefined,
  ) {
    let pong: NodeJS.Timeout | undefined;
    this.#client = createClient({
      url: url.replace(/^http/, "ws"),
      webSocketImpl: WebSocket,
      ...(key ? { connectionParams: { authorization: `Bearer ${key}` } } : {}),
      retryAttempts: ATTEMPTS,
      retryWait: (retries) => sleep(Math.min(200 * 2 ** retries, 2000)),
      // From 4400 on: the key was refused or is no longer valid (4403), or this client is wrong. All else may pass.
      shouldRetry: (err) => (closeCode(err) ?? 0) < 4400,
      // A network that goes away closes nothing: an unanswered ping ends the socket.
      keepAlive: PING_MILLIS,
      on: {
        opened: (socket) => {
          this.#socket = socket as WebSocket;
        },
        ping: (received) => {
          if (!received) pong = setTimeout(() => this.cut(), PING_MILLIS / 2);
        },
        pong: (received) => {
          if (received) clearTimeout(pong);
        },
        closed: () => clearTimeout(pong),
      },
    });
  }

  /**
   * Sends a query, or a mutation that may be repeated. While the server can't be reached, or says when to come back, the
   * request is sent again: what the server did with the first one is unknown, so a mutation needs an idempotency key.
   */
  async request<Data, Input extends Variables>(document: TypedDocumentString<Data, Input>, variables: Input): Promise<Data> {
    for (let attempt = 1; ; attempt += 1) {
      let failed: unknown;
      let seconds = 0.5;
      try {
        const { data, errors } = await this.#post<Data>(document.toString(), variables);
        if (!errors && data) return data;
        failed = new RequestFailed(errors ?? []);
        const later = errors?.[0]?.extensions?.retryAfterSeconds;
        if (later === undefined) throw failed;
        seconds = later;
      } catch (err) {
        if (err instanceof RequestFailed) throw err;
        failed = err;
      }
      if (attempt === ATTEMPTS) throw failed;
      await sleep(seconds * 1000);
    }
  }

  async #post<Data>(query: string, variables: Variables): Promise<{ data?: Data | null; errors?: GraphqlError[] }> {
    const response = await fetch(this.url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/graphql-response+json",
        ...(this.key ? { authorization: `Bearer ${this.key}` } : {}),
      },
      body: JSON.stringify({ query, variables }),
    });
    return (await response.json()) as { data?: Data | null; errors?: GraphqlError[] };
  }

  /**
   * The items of a subscription from behind the cursor `after`, each once, through every end that is temporary. The document
   * takes `$after`; `cursorOf` says where an item's cursor is.
   */
  async *follow<Data, Input extends { after?: string | null }>(
    document: TypedDocumentString<Data, Input>,
    variables: Input & { after: string },
    cursorOf: (data: Data) => string,
  ): AsyncGenerator<Data, never> {
    const payload = { query: document.toString(), variables: { ...variables } };
    for (;;) {
      const items: Data[] = [];
      let end: { err?: unknown } | undefined;
      let wake = () => {};
      const stop = this.#client.subscribe<Data>(payload, {
        next: ({ data, errors }) => {
          if (errors || !data) end ??= { err: errors ?? [] };
          else {
            // graphql-ws reconnects silently and sends this object again. The cursor is written when the item arrives, not
            // when it is used: `client.iterate` buffers items, and after a cut the server would send those again.
            payload.variables.after = cursorOf(data);
            items.push(data);
          }
          wake();
        },
        error: (err) => ((end ??= { err }), wake()),
        complete: () => ((end ??= {}), wake()),
      });
      try {
        while (items.length > 0 || !end) {
          const item = items.shift();
          if (item !== undefined) yield item;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        stop();
      }
      const seconds = resumeSeconds(end.err, (cursor) => (payload.variables.after = cursor));
      await sleep(Math.max(seconds, 0.2) * 1000);
    }
  }

  /** Cuts the socket without a word, as a network goes away. */
  cut(): void {
    this.#socket?.terminate();
  }

  async close(): Promise<void> {
    await this.#client.dispose();
  }
}

/** The seconds after which a subscription that ended is resumed. Throws if its end is not temporary. */
function resumeSeconds(err: unknown, resumeAt: (cursor: string) => void): number {
  // The server completed the operation; there may be more behind the newest cursor.
  if (err === undefined) return 0;
  if (!Array.isArray(err)) throw new Error(`the connection failed: ${closeCode(err) ?? (err as { message?: string }).message}`);
  const errors = err as GraphqlError[];
  const { cursor, retryAfterSeconds } = errors[0]?.extensions ?? {};
  // Temporary ends say where to resume, or when. The reason BEYOND_END means that the database is another one, or was
  // restored: a program that shows data reloads it then, and begins anew with `viewer { cursor }`.
  if (cursor === undefined && retryAfterSeconds === undefined) throw new RequestFailed(errors);
  if (cursor !== undefined) resumeAt(cursor);
  return retryAfterSeconds ?? 0;
}

function closeCode(err: unknown): number | undefined {
  return typeof err === "object" && err !== null && "code" in err && typeof err.code === "number" ? err.code : undefined;
}
