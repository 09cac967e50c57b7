// Launches runs of a campaign, follows their statuses through a cut connection, and pages through them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { RunFilter } from "./gql/graphql.js";
import { graphql } from "./gql/index.js";
import { Sortie } from "./sortie.js";

const FIND = graphql(`
  query Find($name: String!) {
    viewer { cursor }
    campaigns(filter: { search: $name, statuses: [ACTIVE] }, first: 100) { nodes { id name } }
  }
`);
const LAUNCH = graphql(`
  mutation Launch($input: RunCampaignInput!) {
    runCampaign(input: $input) {
      run { id }
      preflight { checks { code status message } }
    }
  }
`);
const CANCEL = graphql(`
  mutation Cancel($input: RunActInput!) {
    cancelRun(input: $input) { run { id status } }
  }
`);
const CHANGES = graphql(`
  subscription Changes($campaign: ID!, $after: String) {
    runStatusChanged(filter: { campaignIds: [$campaign] }, after: $after) { cursor runId from to at }
  }
`);
const LOG = graphql(`
  query Log($filter: EventFilter!, $after: String) {
    events(filter: $filter, first: 500, after: $after) { nodes { cursor } }
  }
`);
const RUNS = graphql(`
  query Runs($filter: RunFilter!, $after: String) {
    runs(filter: $filter, first: 2, after: $after) {
      totalCount
      nodes { id status createdAt }
      pageInfo { hasNextPage endCursor }
    }
  }
`);

const { SORTIE_URL = "http://127.0.0.1:4000/graphql", SORTIE_KEY } = process.env;
const [wanted = "Your own flight"] = process.argv.slice(2);
const sortie = new Sortie(SORTIE_URL, SORTIE_KEY);

async function launch(campaignId: string, idempotencyKey: string): Promise<string> {
  const input = { campaignId, evenIfOpen: true, idempotencyKey };
  const { run, preflight } = (await sortie.request(LAUNCH, { input })).runCampaign;
  const failed = preflight.checks.filter(({ status }) => status === "FAILED");
  assert(run, `the preflight failed: ${failed.map(({ code, message }) => `${code}: ${message}`).join("; ")}`);
  return run.id;
}

async function cancel(id: string): Promise<void> {
  await sortie.request(CANCEL, { input: { id, reason: "an example's run", idempotencyKey: randomUUID() } });
}

const page = async (filter: RunFilter, after: string | null) => (await sortie.request(RUNS, { filter, after })).runs;

/** The pages of the runs that match, newest first. */
async function* pages(filter: RunFilter): AsyncGenerator<Awaited<ReturnType<typeof page>>> {
  let after: string | null = null;
  do {
    const runs = await page(filter, after);
    yield runs;
    after = runs.pageInfo.hasNextPage ? (runs.pageInfo.endCursor ?? null) : null;
  } while (after);
}

async function main(): Promise<void> {
  const { viewer, campaigns } = await sortie.request(FIND, { name: wanted });
  const campaign = campaigns.nodes.find(({ name }) => name === wanted)?.id;
  assert(campaign, `there is no active campaign "${wanted}"; name one as the argument`);
  console.log(`campaign ${wanted}`);

  // The same key twice, as after a response that was lost: one run.
  const key = randomUUID();
  const first = await launch(campaign, key);
  assert.equal(await launch(campaign, key), first, "the same idempotency key launched two runs");
  console.log(`launched ${first} twice with one key: one run`);

  const launched = [first];
  const cancelled = new Set<string>();
  const seen: string[] = [];
  const changes = sortie.follow(CHANGES, { campaign, after: viewer.cursor }, (data) => data.runStatusChanged.cursor);
  for await (const { runStatusChanged: change } of changes) {
    const { cursor, runId, from, to } = change;
    console.log(`${runId} ${from ?? "-"} -> ${to}`);
    seen.push(cursor);
    if (runId === first && to === "IN_PROGRESS") {
      sortie.cut();
      launched.push(await launch(campaign, randomUUID()), await launch(campaign, randomUUID()));
      for (const run of launched) await cancel(run);
      console.log("cut the connection, launched two more, and cancelled all three meanwhile");
    }
    if (runId && to === "CANCELLED") cancelled.add(runId);
    if (launched.length === 3 && launched.every((run) => cancelled.has(run))) break;
  }

  // What the subscription delivered is what the log holds: no gap, no repeat, the same order.
  const kinds = ["scheduled", "queued", "started", "paused", "resumed", "completed", "failed", "cancelled"];
  const filter = { campaignIds: [campaign], kinds: kinds.map((what) => `run.${what}`) };
  const log = (await sortie.request(LOG, { filter, after: viewer.cursor })).events.nodes.map(({ cursor }) => cursor);
  assert.deepEqual(seen, log.slice(0, seen.length), "the subscription and the log differ");
  console.log(`resumed: ${seen.length} changes, each once, in the order of the log`);

  const listed: string[] = [];
  let total: number | undefined;
  for await (const { nodes, totalCount } of pages({ campaignIds: [campaign], statuses: ["CANCELLED"] })) {
    listed.push(...nodes.map(({ id }) => id));
    total ??= totalCount;
    console.log(`page of ${nodes.length}: ${listed.length} of ${totalCount} cancelled runs`);
  }
  // Runs that others cancel meanwhile may come on top.
  assert.equal(new Set(listed).size, listed.length, "a run is on two pages");
  assert(listed.length >= (total ?? 0), "a run is missing from the pages");
  assert(launched.every((run) => listed.includes(run)), "a cancelled run is on no page");
  console.log("the typed client in TypeScript works");
}

const deadline = setTimeout(() => {
  console.error(`${SORTIE_URL}: not done within two minutes`);
  process.exit(1);
}, 120_000);
try {
  await main();
} catch (err) {
  const { message = String(err), cause } = err instanceof Error ? err : {};
  console.error(`${SORTIE_URL}: ${message}${cause ? ` (${cause})` : ""}`);
  process.exitCode = 1;
} finally {
  clearTimeout(deadline);
  await sortie.close();
}
