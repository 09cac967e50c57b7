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
  `# 7. Guided work: this week's review with its steps. Put a step's id into the variables to see what it is about.
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
ReactDOM.createRoot(document.getElementById('graphiql')).render(
  React.createElement(GraphiQL, {
    fetcher,
    defaultTabs: examples.map((query) => ({ query, variables: query.includes('$id') ? '{ "id": "" }' : undefined })),
    isHeadersEditorEnabled: true,
  }),
);
