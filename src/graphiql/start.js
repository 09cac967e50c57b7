// Starts GraphiQL over our own endpoint, with example queries ready in tabs.
const socket = location.origin.replace(/^http/, 'ws') + '/graphql';
const fetcher = GraphiQL.createFetcher({ url: '/graphql', subscriptionUrl: socket });
const examples = [
  `# 1. What runs there are, and how far they are.
query Runs {
  runs(first: 20, orderBy: { field: CREATED_AT, direction: DESC }) {
    totalCount
    countsByStatus { status count }
    nodes { id name type status progress { fraction perMinute counts { total completed failed skipped } } waitingFor { message } }
  }
}`,
  `# 2. Every change of a run's status, live. Start it, then launch something in another tab.
#    Pass a cursor as "after" to resume behind it.
subscription RunStatus {
  runStatusChanged { cursor name from to reason at actor { name } }
}`,
  `# 3. May this campaign fly? Put a campaign's id from tab 4 into the variables.
query Preflight($id: ID!) {
  preflight(campaignId: $id, action: RUN) { ready checks { code status severity message remediation } }
}`,
  `# 4. The campaigns, and what can be done with each.
query Campaigns {
  campaigns(first: 10) {
    nodes { id name status channel segment { name recordCount } availableActions { action allowed blockedBecause } }
  }
}`,
  `# 5. Approve the campaign that waits, then launch it; then approve its review (tab 6).
mutation Approve($id: ID!) {
  approveCampaign(input: { id: $id }) { campaign { name status } preflight { ready } }
}

mutation Launch($id: ID!) {
  runCampaign(input: { campaignId: $id }) { run { id status } preflight { ready checks { code status message } } }
}`,
  `# 6. What waits for people: reviews to approve, calls to make, replies to handle.
query WorkList {
  steps(filter: { statuses: [AWAITING_APPROVAL, PENDING], assignedTo: [HUMAN] }, first: 20) {
    nodes { id name type status run { name } record { name } availableActions { action allowed } }
  }
}

mutation ApproveReview($id: ID!) {
  approveStep(input: { id: $id }) { step { name status completedBy { name } } }
}`,
];
ReactDOM.createRoot(document.getElementById('graphiql')).render(
  React.createElement(GraphiQL, {
    fetcher,
    defaultTabs: examples.map((query) => ({ query, variables: query.includes('$id') ? '{ "id": "" }' : undefined })),
    isHeadersEditorEnabled: true,
  }),
);
