-- Times are microseconds since 1970 in UTC. Roles, scopes and kinds are positions in the lists of the wire contract.
-- The statements that use these tables are shared with PostgreSQL; only the types of the columns are SQLite's own.

-- One row: which installation this is, and proof that the root key beside it belongs to it.
CREATE TABLE installation (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    created_at BIGINT NOT NULL,
    root_key_check BLOB NOT NULL
);

-- Numbers that are given out once.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- The five tables of what is kept. `mac` covers every other column but the folded ones, which only serve searching and
-- sorting.
CREATE TABLE organizations (
    id BIGINT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    domain TEXT,
    standing BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by_kind TEXT NOT NULL,
    created_by_id BIGINT,
    updated_at BIGINT NOT NULL,
    changed_by_kind TEXT NOT NULL,
    changed_by_id BIGINT,
    archived_at BIGINT,
    version BIGINT NOT NULL,
    mac BLOB NOT NULL
);

CREATE TABLE projects (
    id BIGINT PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    name_folded TEXT NOT NULL,
    locale TEXT NOT NULL,
    timezone TEXT NOT NULL,
    description TEXT,
    description_folded TEXT,
    website_url TEXT,
    text_opt_out_message TEXT,
    text_help_message TEXT,
    link_wrap_email BIGINT,
    link_wrap_push BIGINT,
    track_opens_email BIGINT,
    deeplink_mirror_url TEXT,
    created_at BIGINT NOT NULL,
    created_by_kind TEXT NOT NULL,
    created_by_id BIGINT,
    updated_at BIGINT NOT NULL,
    changed_by_kind TEXT NOT NULL,
    changed_by_id BIGINT,
    archived_at BIGINT,
    version BIGINT NOT NULL,
    mac BLOB NOT NULL
);

CREATE INDEX live_projects_by_organization ON projects (organization_id, created_at, id) WHERE archived_at IS NULL;

-- Keys of every kind.
CREATE TABLE api_keys (
    id BIGINT PRIMARY KEY,
    kind BIGINT NOT NULL,
    organization_id BIGINT REFERENCES organizations (id),
    project_id BIGINT REFERENCES projects (id),
    role BIGINT NOT NULL,
    scope BIGINT NOT NULL,
    -- Words in their order, a space between each two.
    permissions TEXT NOT NULL,
    -- JSON, or nothing.
    limits TEXT NOT NULL,
    -- The policy at whose version the reach of a publishable key is frozen.
    reach BIGINT NOT NULL,
    is_system BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_folded TEXT NOT NULL,
    description TEXT,
    description_folded TEXT,
    mask TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    created_by_kind TEXT NOT NULL,
    created_by_id BIGINT,
    updated_at BIGINT NOT NULL,
    changed_by_kind TEXT NOT NULL,
    changed_by_id BIGINT,
    revoked_at BIGINT,
    version BIGINT NOT NULL,
    mac BLOB NOT NULL
);

-- For the list as it is mostly asked for, and for what hangs on an organization.
CREATE INDEX live_api_keys_by_project ON api_keys (project_id, created_at, id) WHERE revoked_at IS NULL;
CREATE INDEX live_api_keys_by_organization ON api_keys (organization_id, project_id) WHERE revoked_at IS NULL;

-- What an organization's `member` keys may do in its projects.
CREATE TABLE members (
    id BIGINT PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    project_id BIGINT NOT NULL REFERENCES projects (id),
    key_id BIGINT NOT NULL REFERENCES api_keys (id),
    role BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by_kind TEXT NOT NULL,
    created_by_id BIGINT,
    updated_at BIGINT NOT NULL,
    changed_by_kind TEXT NOT NULL,
    changed_by_id BIGINT,
    taken_at BIGINT,
    version BIGINT NOT NULL,
    mac BLOB NOT NULL
);

CREATE UNIQUE INDEX live_members ON members (key_id, project_id) WHERE taken_at IS NULL;
CREATE INDEX live_members_by_project ON members (project_id) WHERE taken_at IS NULL;

-- For who applies a policy: which live keys are public, and at which version their reach is frozen.
CREATE INDEX live_public_api_keys ON api_keys (reach, id) WHERE scope = 0 AND revoked_at IS NULL;

-- Every policy that was applied, by its version. Rows are added and never changed.
CREATE TABLE policies (
    id BIGINT PRIMARY KEY,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by_kind TEXT NOT NULL,
    created_by_id BIGINT,
    updated_at BIGINT NOT NULL,
    changed_by_kind TEXT NOT NULL,
    changed_by_id BIGINT,
    version BIGINT NOT NULL,
    mac BLOB NOT NULL
);

-- One row: number and hash of the newest audit entry, the masked sum over all live rows, and a MAC over the three.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash BLOB NOT NULL,
    live_sum BLOB NOT NULL,
    mac BLOB NOT NULL
);

-- The log of changes, in order: who did what. Followers of a store apply it.
CREATE TABLE audit_events (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id BIGINT,
    action TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id BIGINT NOT NULL,
    target_version BIGINT NOT NULL,
    organization_id BIGINT,
    project_id BIGINT,
    before_json TEXT,
    after_json TEXT,
    request_id TEXT NOT NULL,
    hash BLOB NOT NULL
);

-- For tenants who read their own part of the log.
CREATE INDEX audit_events_by_project ON audit_events (project_id, seq) WHERE project_id IS NOT NULL;
CREATE INDEX audit_events_by_organization ON audit_events (organization_id, seq) WHERE organization_id IS NOT NULL;

-- Replies to requests with an Idempotency-Key, sealed so that only the caller's own key opens them.
CREATE TABLE replies (
    lookup BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    salt BLOB NOT NULL,
    sealed BLOB NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX replies_by_expiry ON replies (expires_at);

-- How keys were used: counted in memory, added every few seconds. It has no MAC and is in no audit log. Hours are counted
-- from 1970.
CREATE TABLE key_usage (
    key_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    valid BIGINT NOT NULL,
    forbidden BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    usage_exceeded BIGINT NOT NULL,
    not_found BIGINT NOT NULL,
    PRIMARY KEY (key_id, hour)
) WITHOUT ROWID;

-- For what a whole project used, and for what is too old.
CREATE INDEX key_usage_by_project ON key_usage (project_id, hour);
CREATE INDEX key_usage_by_hour ON key_usage (hour);

CREATE TABLE key_last_use (
    key_id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    route TEXT
);

-- Where keys stand with their quotas: window and count, as the index holds them.
CREATE TABLE key_quotas (
    key_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    counted BIGINT NOT NULL,
    PRIMARY KEY (key_id, name)
) WITHOUT ROWID;

-- The newest batch of uses that each process wrote, in the transaction that holds it: so none is added twice.
CREATE TABLE usage_writers (
    writer BIGINT PRIMARY KEY,
    batch BIGINT NOT NULL,
    at BIGINT NOT NULL
);

-- The processes that follow this store: how far each has come, and how often it has said so. Who is silent for longer than
-- `stale_ms` answers nothing any more.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    beats INTEGER NOT NULL,
    stale_ms INTEGER NOT NULL,
    version TEXT NOT NULL
) STRICT;
