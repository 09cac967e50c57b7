// Starts GraphiQL on this server's endpoint, with example queries in tabs. With `?live` it opens a single tab and runs its
// subscription immediately: GraphiQL ends a subscription when its tab changes, so a live view needs its own window.
const socket = location.origin.replace(/^http/, 'ws') + '/graphql';

// Ends a subscription whose socket was closed with 4403: GraphiQL's client treats that code as temporary and would retry
// endlessly with an invalid credential. 4401 is fatal for it.
let refused;
class Socket extends WebSocket {
  set onclose(then) {
    super.onclose = (event) => {
      if (event.code !== 4403) return then?.(event);
      refused = new Error(
        'The server closed the live connection (4403 ' + event.reason + '): the key in Headers is missing, wrong or no longer ' +
          'valid. Put {"Authorization": "Bearer sortie_…"} with a valid key into Headers, then press play again.',
      );
      then?.(new CloseEvent('close', { code: 4401, reason: event.reason, wasClean: event.wasClean }));
    };
  }
}
window.WebSocket = Socket;

const plain = GraphiQL.createFetcher({ url: '/graphql', subscriptionUrl: socket });
// Shows why a subscription ended.
const rethrow = (error) => {
  const shown = refused ?? error;
  refused = undefined;
  throw shown;
};
async function fetcher(request, options) {
  const response = await plain(request, options);
  if (typeof response?.[Symbol.asyncIterator] !== 'function') return response;
  const items = response[Symbol.asyncIterator]();
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () => items.next().catch(rethrow),
    return: (value) => items.return?.(value) ?? Promise.resolve({ value, done: true }),
  };
}
const steps = `subscription Live {
  stepStatusChanged {
    cursor name from to at
    step { record { name } run { name status progress { fraction counts { completed total } } } }
  }
}`;
const live = `# Every change of a step's status, live, as
# long as this window stays on this tab. To
# resume after an item, pass its cursor:
# stepStatusChanged(after: "CURSOR").
# With a key: put the line
` + '#   {"Authorization": "Bearer sortie_…"}\n' + `# into Headers below, then stop and start
# the subscription with the red button.
` + steps;
const examples = [
  `# 1. The runs and their progress. Press play
# again to see the demo's run "Slow flight"
# advance.
# With a key: put the line
#   {"Authorization": "Bearer sortie_…"}
# into Headers below, in each tab.
query Runs {
  runs(first: 20, orderBy: { field: CREATED_AT, direction: DESC }) {
    totalCount
    countsByStatus { status count }
    nodes { id name type status progress { fraction perMinute counts { total completed failed skipped } } waitingFor { message } }
  }
}`,
  `# 2. Every change of a step's status, live.
# The demo's "Slow flight" produces about
# three a second, five at a time. Without
# the demo, changes appear while a run is in
# progress.
# GraphiQL ends a subscription when you
# change the tab. To watch while you work in
# other tabs, open a second window: the link
# "Live in a second window" above, or this
# page's address followed by ?live
` + steps,
  `# 3. Start a run of your own. In the demo an
# agent looks at each lead, and a mail for
# each goes to the outbox, for two minutes.
# The campaign's id is in Variables below. If
# it is empty (without the demo, or with a
# key), copy an id from the tab "Campaigns"
# into Variables.
mutation Fly($id: ID!) {
  runCampaign(input: { campaignId: $id }) { run { id name status } preflight { ready checks { code status message } } }
}`,
  `# 4. The campaigns and the actions that each
# allows. "Preflight" checks whether one can
# be launched: it needs the campaign's id in
# Variables below.
query Campaigns {
  campaigns(first: 10) {
    nodes { id name status channel segment { name recordCount } availableActions { action allowed blockedBecause } }
  }
}

query Preflight($id: ID!) {
  preflight(campaignId: $id, action: RUN) { ready checks { code status severity message remediation } }
}`,
  `# 5. Approve a submitted campaign, then
# launch it; then approve its review (tab
# "WorkList"). The demo's campaign is in
# Variables below. If the id is empty, copy
# one from the tab "Campaigns".
mutation Approve($id: ID!) {
  approveCampaign(input: { id: $id }) { campaign { name status } preflight { ready } }
}

mutation Launch($id: ID!) {
  runCampaign(input: { campaignId: $id }) { run { id status } preflight { ready checks { code status message } } }
}`,
  `# 6. The steps that wait for people: reviews
# to approve, calls to make, replies to
# handle. To approve a review, copy the id of
# its step from the list into Variables
# below, then run "ApproveReview".
query WorkList {
  steps(filter: { statuses: [AWAITING_APPROVAL, PENDING], assignedTo: [HUMAN] }, first: 20) {
    nodes { id name type status run { name } record { name } availableActions { action allowed } }
  }
}

mutation ApproveReview($id: ID!) {
  approveStep(input: { id: $id }) { step { name status completedBy { name } } }
}`,
  `# 7. Guided work: the sessions (in the demo
# this week's review) with their steps. To
# see a step's records, copy its id into
# Variables below, then run "StepData".
# Without the demo, start a session first
# with startGuidedRun.
query GuidedWork {
  runs(filter: { types: [GUIDED] }, first: 5) {
    nodes { id name status progress { fraction } steps { nodes { id name type status description } } }
  }
  runTemplates(filter: { kind: GUIDED }) { nodes { key name description } }
}

query StepData($id: ID!) {
  step(id: $id) {
    name status description availableActions { action allowed }
    records {
      totalCount
      nodes {
        id name stage priority lastContactedAt
        communications(first: 3) { nodes { subject status } } replies(first: 3) { nodes { body } } followUps(statuses: [OPEN]) { nodes { title dueAt } }
      }
    }
    suggestions { record { name } mail { to subject body } stage slot { startsAt endsAt } title dueAt }
  }
}

mutation Note($id: ID!) {
  addStepNote(input: { stepId: $id, text: "Two of them need a call today." }) { step { result } activities { summary at actor { name } } }
}

mutation CompleteStep($id: ID!) {
  completeStep(input: { id: $id }) { step { name status completedAt completedBy { name } result } }
}`,
];

// The initial ids in the tabs' variables: the demo's, if it exists and can be queried without a key.
async function ids() {
  const query =
    '{ campaigns(first: 100, orderBy: { field: CREATED_AT, direction: ASC }) { nodes { id name } }' +
    ' runs(filter: { types: [GUIDED], statuses: [IN_PROGRESS] }, first: 10) { nodes { name steps { nodes { id status } } } } }';
  const answer = await fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({ query }),
  }).then((response) => response.json()).catch(() => ({}));
  const campaign = (name) => answer.data?.campaigns.nodes.find((one) => one.name === name)?.id;
  const review = answer.data?.runs.nodes.find((one) => one.name === "This week's review");
  const step = review?.steps.nodes.find((one) => one.status === 'IN_PROGRESS')?.id;
  const [own, waiting] = [campaign('Your own flight'), campaign('Win back quiet leads')];
  return [undefined, undefined, own, waiting, waiting, undefined, step];
}

async function start() {
  const alone = new URLSearchParams(location.search).has('live');
  const found = alone ? [] : await ids();
  const queries = alone ? [live] : examples;
  // GraphiQL stores its tabs in the browser. Other examples or another database start with new tabs.
  const version = [...queries.join('')].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) | 0, 7);
  const namespace = ['sortie', alone ? 'live' : found[2] ?? 'any', version].join(':');
  const storage = GraphiQL.createLocalStorage({ namespace });
  const variables = (query, id) => (query.includes('$id') ? JSON.stringify({ id: id ?? '' }) : undefined);
  ReactDOM.createRoot(document.getElementById('graphiql')).render(
    React.createElement(GraphiQL, {
      fetcher,
      storage,
      defaultTabs: queries.map((query, i) => ({ query, variables: variables(query, found[i]) })),
      isHeadersEditorEnabled: true,
    }),
  );
  if (alone) {
    document.title = 'Sortie · Live';
    const button = () => document.querySelector('.graphiql-execute-button');
    const waits = setInterval(() => {
      if (!button() || !document.querySelector('.graphiql-query-editor .CodeMirror')) return;
      clearInterval(waits);
      button().click();
    }, 100);
  }
}

start();
