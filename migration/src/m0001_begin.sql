CREATE TABLE IF NOT EXISTS org (
    id {uuid} PRIMARY KEY, name {text} NOT NULL, created_at {time} NOT NULL
);
CREATE TABLE IF NOT EXISTS event_counter (
    org_id {uuid} PRIMARY KEY REFERENCES org (id), position {long} NOT NULL
);
-- No foreign keys: the log outlives what it tells of, and its insert comes last, under the counter's lock.
CREATE TABLE IF NOT EXISTS event (
    org_id {uuid} NOT NULL, position {long} NOT NULL, kind {text} NOT NULL,
    campaign_id {uuid}, run_id {uuid}, phase_id {uuid}, task_id {uuid}, step_id {uuid}, record_id {uuid},
    actor {json} NOT NULL, payload {json} NOT NULL, at {time} NOT NULL,
    PRIMARY KEY (org_id, position)
);
CREATE INDEX IF NOT EXISTS event_by_run ON event (run_id, position);
CREATE INDEX IF NOT EXISTS event_by_campaign ON event (campaign_id, position);
CREATE TABLE IF NOT EXISTS member (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, email {text} NOT NULL,
    role {text} NOT NULL CHECK (role IN ('VIEWER', 'OPERATOR', 'REVIEWER', 'MANAGER', 'ADMIN')),
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    UNIQUE (org_id, email)
);
CREATE TABLE IF NOT EXISTS goal (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, description {text} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE INDEX IF NOT EXISTS goal_by_org ON goal (org_id, id);
CREATE TABLE IF NOT EXISTS writer (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, kind {text} NOT NULL CHECK (kind IN ('TEMPLATED', 'AGENT')),
    instructions {text} NOT NULL, body {text},
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE INDEX IF NOT EXISTS writer_by_org ON writer (org_id, id);
CREATE TABLE IF NOT EXISTS reviewer (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, member_id {uuid} NOT NULL REFERENCES member (id),
    policy {text} NOT NULL CHECK (policy IN ('ANY', 'ALL')),
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE INDEX IF NOT EXISTS reviewer_by_org ON reviewer (org_id, id);
CREATE TABLE IF NOT EXISTS message_template (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    subject {text}, body {text} NOT NULL, version {int} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE INDEX IF NOT EXISTS message_template_by_org ON message_template (org_id, id);
CREATE TABLE IF NOT EXISTS segment (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, filter {json},
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE INDEX IF NOT EXISTS segment_by_org ON segment (org_id, id);
CREATE TABLE IF NOT EXISTS record (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    kind {text} NOT NULL, external_id {text}, name {text} NOT NULL, email {text}, phone {text}, time_zone {text},
    stage {text}, last_contacted_at {time}, unsubscribed_at {time}, attributes {json} NOT NULL, search {text} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    UNIQUE (org_id, kind, external_id)
);
CREATE INDEX IF NOT EXISTS record_by_org ON record (org_id, id);
CREATE INDEX IF NOT EXISTS record_by_name ON record (org_id, name, id);
CREATE INDEX IF NOT EXISTS record_by_stage ON record (org_id, stage, id);
CREATE TABLE IF NOT EXISTS segment_record (
    segment_id {uuid} NOT NULL REFERENCES segment (id), record_id {uuid} NOT NULL REFERENCES record (id),
    org_id {uuid} NOT NULL REFERENCES org (id),
    PRIMARY KEY (segment_id, record_id)
);
CREATE TABLE IF NOT EXISTS campaign (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, description {text} NOT NULL,
    channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    status {text} NOT NULL CHECK
        (status IN ('DRAFT', 'PENDING_APPROVAL', 'ACTIVE', 'PAUSED', 'COMPLETED', 'CANCELLED', 'FAILED')),
    goal_id {uuid} REFERENCES goal (id), writer_id {uuid} REFERENCES writer (id),
    reviewer_id {uuid} REFERENCES reviewer (id), message_template_id {uuid} REFERENCES message_template (id),
    segment_id {uuid} REFERENCES segment (id), record_id {uuid} REFERENCES record (id),
    instructions {text} NOT NULL, variables {json} NOT NULL, version {int} NOT NULL,
    rejected_because {text}, approved_by {json}, approved_at {time}, created_by {json} NOT NULL, search {text} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    CHECK (segment_id IS NULL OR record_id IS NULL)
);
CREATE INDEX IF NOT EXISTS campaign_by_created ON campaign (org_id, created_at, id);
CREATE INDEX IF NOT EXISTS campaign_by_name ON campaign (org_id, name, id);
CREATE INDEX IF NOT EXISTS campaign_by_status ON campaign (org_id, status, id);
CREATE TABLE IF NOT EXISTS campaign_version (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    campaign_id {uuid} NOT NULL REFERENCES campaign (id), version {int} NOT NULL,
    changes {json} NOT NULL, actor {json} NOT NULL, created_at {time} NOT NULL,
    UNIQUE (campaign_id, version)
);
CREATE TABLE IF NOT EXISTS schedule (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    campaign_id {uuid} NOT NULL REFERENCES campaign (id),
    status {text} NOT NULL CHECK (status IN ('ACTIVE', 'ENDED')),
    at {time}, cron {text}, time_zone {text} NOT NULL,
    gap {text} NOT NULL CHECK (gap IN ('SHIFT', 'SKIP')), fold {text} NOT NULL CHECK (fold IN ('ONCE', 'BOTH')),
    next_at {time}, created_by {json} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    CHECK ((at IS NULL) <> (cron IS NULL))
);
CREATE INDEX IF NOT EXISTS schedule_by_org ON schedule (org_id, id);
CREATE INDEX IF NOT EXISTS schedule_by_campaign ON schedule (campaign_id, id);
CREATE TABLE IF NOT EXISTS run (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    campaign_id {uuid} NOT NULL REFERENCES campaign (id), campaign_version {int} NOT NULL,
    campaign_name {text} NOT NULL, name {text} NOT NULL,
    type {text} NOT NULL CHECK (type IN ('TEST_RUN', 'RUN', 'SCHEDULE')),
    status {text} NOT NULL CHECK
        (status IN ('SCHEDULED', 'QUEUED', 'IN_PROGRESS', 'PAUSED', 'COMPLETED', 'CANCELLED', 'FAILED')),
    channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    schedule_id {uuid} REFERENCES schedule (id), occurrence_at {time}, scheduled_for {time}, queued_at {time},
    started_at {time}, ended_at {time},
    definition {json} NOT NULL, instructions {json} NOT NULL, test {json}, preflight {json},
    audience_count {long} NOT NULL, audience_done {bool} NOT NULL, outcome {text}, failure {text},
    created_by {json} NOT NULL, search {text} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    UNIQUE (schedule_id, occurrence_at),
    CHECK (status <> 'SCHEDULED' OR scheduled_for IS NOT NULL)
);
CREATE INDEX IF NOT EXISTS run_by_created ON run (org_id, created_at, id);
CREATE INDEX IF NOT EXISTS run_by_campaign_name ON run (org_id, campaign_name, id);
CREATE INDEX IF NOT EXISTS run_by_channel ON run (org_id, channel, id);
CREATE INDEX IF NOT EXISTS run_by_status ON run (org_id, status, id);
CREATE INDEX IF NOT EXISTS run_by_type ON run (org_id, type, id);
CREATE INDEX IF NOT EXISTS run_by_scheduled_for ON run (org_id, scheduled_for, id);
CREATE INDEX IF NOT EXISTS run_of_campaign ON run (campaign_id, created_at, id);
CREATE INDEX IF NOT EXISTS run_to_begin ON run (scheduled_for) WHERE status IN ('SCHEDULED', 'QUEUED');
CREATE TABLE IF NOT EXISTS run_record (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    record_id {uuid} REFERENCES record (id), address {text}, address_key {text},
    outcome {text} CHECK (outcome IN ('SENT', 'FAILED', 'SKIPPED', 'UNKNOWN')), reason {text}
);
CREATE INDEX IF NOT EXISTS run_record_by_run ON run_record (run_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS run_record_address ON run_record (run_id, address_key) WHERE address_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS phase (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    key {text} NOT NULL, name {text} NOT NULL, sequence {int} NOT NULL,
    status {text} NOT NULL CHECK (status IN ('PENDING', 'ACTIVE', 'COMPLETED', 'SKIPPED', 'FAILED')),
    autonomous {bool} NOT NULL, interrupt_events {json} NOT NULL, person_act {json},
    started_at {time}, completed_at {time}, revision {int} NOT NULL,
    UNIQUE (run_id, sequence)
);
CREATE TABLE IF NOT EXISTS task (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    phase_id {uuid} NOT NULL REFERENCES phase (id),
    key {text} NOT NULL, name {text} NOT NULL, sequence {int} NOT NULL,
    status {text} NOT NULL CHECK (status IN ('PENDING', 'IN_PROGRESS', 'BLOCKED', 'COMPLETED', 'SKIPPED', 'FAILED')),
    fan_out {bool} NOT NULL, fan_out_begun {bool} NOT NULL, fan_out_done {bool} NOT NULL,
    fail_when {json} NOT NULL, depends_on {json} NOT NULL,
    pending {long} NOT NULL CHECK (pending >= 0), queued {long} NOT NULL CHECK (queued >= 0),
    in_progress {long} NOT NULL CHECK (in_progress >= 0),
    awaiting_approval {long} NOT NULL CHECK (awaiting_approval >= 0),
    completed {long} NOT NULL CHECK (completed >= 0), skipped {long} NOT NULL CHECK (skipped >= 0),
    failed {long} NOT NULL CHECK (failed >= 0),
    started_at {time}, completed_at {time},
    UNIQUE (run_id, key)
);
CREATE TABLE IF NOT EXISTS step (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    phase_id {uuid} NOT NULL REFERENCES phase (id), task_id {uuid} NOT NULL REFERENCES task (id),
    run_record_id {uuid} REFERENCES run_record (id), record_id {uuid} REFERENCES record (id),
    key {text} NOT NULL, name {text} NOT NULL, kind {text} NOT NULL, sequence {int} NOT NULL,
    status {text} NOT NULL CHECK
        (status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL', 'COMPLETED', 'SKIPPED', 'FAILED')),
    trigger {text} NOT NULL,
    content_source {text} CHECK
        (content_source IN ('AGENT_DRAFTED', 'TEMPLATE_SOURCED', 'USER_PROVIDED', 'SYSTEM_GENERATED')),
    assigned_to {text} NOT NULL CHECK (assigned_to IN ('HUMAN', 'AGENT', 'WORKFLOW')),
    result {json}, error {text}, available_at {time} NOT NULL,
    attempt_count {int} NOT NULL, failure_count {int} NOT NULL, max_attempts {int} NOT NULL CHECK (max_attempts > 0),
    lapse_count {int} NOT NULL, lease_owner {text}, lease_expires_at {time},
    started_at {time}, completed_at {time}, completed_by {json}, created_at {time} NOT NULL, revision {int} NOT NULL,
    CHECK (lease_owner IS NULL OR status = 'IN_PROGRESS')
);
CREATE INDEX IF NOT EXISTS step_by_run ON step (run_id, id);
CREATE INDEX IF NOT EXISTS step_by_task ON step (task_id, status, id);
CREATE INDEX IF NOT EXISTS step_by_org ON step (org_id, id);
CREATE INDEX IF NOT EXISTS step_to_claim ON step (kind, available_at, id) WHERE status = 'QUEUED';
CREATE INDEX IF NOT EXISTS step_leased ON step (lease_expires_at) WHERE lease_owner IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS step_single ON step (task_id, key) WHERE run_record_id IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS step_of_record ON step (run_record_id, task_id, key) WHERE run_record_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS communication (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    campaign_id {uuid} NOT NULL REFERENCES campaign (id), run_id {uuid} NOT NULL REFERENCES run (id),
    step_id {uuid} NOT NULL REFERENCES step (id), run_record_id {uuid} NOT NULL REFERENCES run_record (id),
    record_id {uuid} REFERENCES record (id), occasion {int} NOT NULL,
    channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    to_address {text} NOT NULL, to_name {text} NOT NULL, subject {text}, body {text} NOT NULL,
    status {text} NOT NULL CHECK
        (status IN ('DRAFT', 'APPROVED', 'REJECTED', 'SENDING', 'SENT', 'FAILED', 'UNKNOWN', 'CANCELLED')),
    test {bool} NOT NULL, message_id {text} NOT NULL, edited_by {json}, reviewed_by {json}, rejected_because {text},
    error {text}, reserved_at {time}, sent_at {time},
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    UNIQUE (step_id, run_record_id, occasion)
);
CREATE INDEX IF NOT EXISTS communication_by_run ON communication (run_id, id);
CREATE INDEX IF NOT EXISTS communication_by_place ON communication (run_record_id);
CREATE INDEX IF NOT EXISTS communication_by_org ON communication (org_id, id);
CREATE INDEX IF NOT EXISTS communication_by_campaign ON communication (campaign_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS communication_by_message_id ON communication (org_id, message_id);
CREATE TABLE IF NOT EXISTS reply (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    communication_id {uuid} NOT NULL REFERENCES communication (id),
    campaign_id {uuid} NOT NULL REFERENCES campaign (id), run_id {uuid} NOT NULL REFERENCES run (id),
    record_id {uuid} REFERENCES record (id), channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    external_id {text}, subject {text}, body {text} NOT NULL, received_at {time} NOT NULL, recorded_by {json} NOT NULL,
    created_at {time} NOT NULL,
    UNIQUE (org_id, external_id)
);
CREATE INDEX IF NOT EXISTS reply_by_run ON reply (run_id, id);
CREATE INDEX IF NOT EXISTS reply_by_campaign ON reply (campaign_id, id);
CREATE INDEX IF NOT EXISTS reply_by_org ON reply (org_id, id);
CREATE TABLE IF NOT EXISTS sweep (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    task_id {uuid} REFERENCES task (id),
    kind {text} NOT NULL CHECK (kind IN ('AUDIENCE', 'FAN_OUT', 'APPROVE', 'REDRAFT', 'CANCEL')),
    last_key {uuid}, actor {json} NOT NULL, reason {text}, created_at {time} NOT NULL
);
CREATE INDEX IF NOT EXISTS sweep_by_run ON sweep (run_id);
CREATE TABLE IF NOT EXISTS import (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    kind {text} NOT NULL, file {text} NOT NULL,
    status {text} NOT NULL CHECK (status IN ('RUNNING', 'COMPLETED', 'FAILED')),
    rows {long} NOT NULL, created {long} NOT NULL, updated {long} NOT NULL, unchanged {long} NOT NULL,
    bad {long} NOT NULL, failure {text}, actor {json} NOT NULL, created_at {time} NOT NULL, ended_at {time}
);
CREATE INDEX IF NOT EXISTS import_by_org ON import (org_id, id);
CREATE TABLE IF NOT EXISTS import_problem (
    import_id {uuid} NOT NULL REFERENCES import (id), number {long} NOT NULL,
    org_id {uuid} NOT NULL REFERENCES org (id),
    line {long} NOT NULL, column_name {text}, value {text}, why {text} NOT NULL,
    PRIMARY KEY (import_id, number)
);
CREATE TABLE IF NOT EXISTS import_seen (
    import_id {uuid} NOT NULL REFERENCES import (id), external_id {text} NOT NULL, line {long} NOT NULL,
    PRIMARY KEY (import_id, external_id)
);
