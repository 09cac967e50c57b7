ALTER TABLE task ADD COLUMN retrying {bool} NOT NULL DEFAULT FALSE;
ALTER TABLE sweep ADD COLUMN detail {json};
-- Addresses that are never written to.
CREATE TABLE suppression (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    address {text} NOT NULL, address_key {text} NOT NULL, reason {text} NOT NULL, created_by {json} NOT NULL,
    created_at {time} NOT NULL,
    UNIQUE (org_id, channel, address_key)
);
CREATE INDEX suppression_by_org ON suppression (org_id, id);
-- Written in the transaction of the mutation that it is for: one key has one effect.
CREATE TABLE idempotency_key (
    org_id {uuid} NOT NULL REFERENCES org (id), asker {text} NOT NULL, mutation {text} NOT NULL, key {text} NOT NULL,
    input {text} NOT NULL, made {uuid}, created_at {time} NOT NULL,
    PRIMARY KEY (org_id, asker, mutation, key)
);
CREATE INDEX idempotency_key_by_age ON idempotency_key (created_at);
-- When a channel may take the next message, if all before it went at the channel's rate.
CREATE TABLE channel_rate (
    org_id {uuid} NOT NULL REFERENCES org (id),
    channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    next_at {time} NOT NULL,
    PRIMARY KEY (org_id, channel)
);
CREATE INDEX run_record_by_record ON run_record (record_id);
