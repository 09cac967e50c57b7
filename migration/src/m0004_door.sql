ALTER TABLE member ADD COLUMN subject {text};
CREATE UNIQUE INDEX member_by_subject ON member (org_id, subject) WHERE subject IS NOT NULL;
CREATE TABLE api_key (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), member_id {uuid} NOT NULL REFERENCES member (id),
    name {text} NOT NULL,
    role {text} NOT NULL CHECK (role IN ('VIEWER', 'OPERATOR', 'REVIEWER', 'MANAGER', 'ADMIN', 'WORKER')),
    secret_hash {text} NOT NULL, created_by {json} NOT NULL, created_at {time} NOT NULL,
    expires_at {time}, last_used_at {time}, revoked_at {time}
);
CREATE INDEX api_key_by_org ON api_key (org_id, id);
CREATE INDEX api_key_by_member ON api_key (member_id);
-- No foreign keys but the org: the audit outlives what it tells of.
CREATE TABLE audit (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), actor {json} NOT NULL, member_id {uuid},
    api_key_id {uuid}, address {text} NOT NULL, mutation {text} NOT NULL, input {json} NOT NULL, target {text},
    outcome {text} NOT NULL CHECK (outcome IN ('DONE', 'NOTHING', 'REFUSED', 'FAILED')), code {text}, at {time} NOT NULL
);
CREATE INDEX audit_by_org ON audit (org_id, id);
CREATE INDEX audit_by_target ON audit (org_id, target, id) WHERE target IS NOT NULL;
ALTER TABLE writer ADD COLUMN version {int} NOT NULL DEFAULT 1;
CREATE TABLE message_template_version (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    message_template_id {uuid} NOT NULL REFERENCES message_template (id), version {int} NOT NULL,
    changes {json} NOT NULL, actor {json} NOT NULL, created_at {time} NOT NULL,
    UNIQUE (message_template_id, version)
);
CREATE TABLE writer_version (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), writer_id {uuid} NOT NULL REFERENCES writer (id),
    version {int} NOT NULL, changes {json} NOT NULL, actor {json} NOT NULL, created_at {time} NOT NULL,
    UNIQUE (writer_id, version)
);
-- What there was before has the version that it stands at, under its own id.
INSERT INTO message_template_version (id, org_id, message_template_id, version, changes, actor, created_at)
SELECT id, org_id, id, version, '[]', '{"kind": "ENGINE", "member_id": null, "name": "engine"}', updated_at FROM message_template;
INSERT INTO writer_version (id, org_id, writer_id, version, changes, actor, created_at)
SELECT id, org_id, id, version, '[]', '{"kind": "ENGINE", "member_id": null, "name": "engine"}', updated_at FROM writer;
