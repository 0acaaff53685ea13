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

CREATE TABLE organizations (
    id BIGINT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE projects (
    id BIGINT PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    locale TEXT NOT NULL,
    timezone TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Keys of every kind. `mac` covers every other column but the two folded ones, which only serve searching and sorting.
CREATE TABLE api_keys (
    id BIGINT PRIMARY KEY,
    kind BIGINT NOT NULL,
    organization_id BIGINT REFERENCES organizations (id),
    project_id BIGINT REFERENCES projects (id),
    role BIGINT NOT NULL,
    scope BIGINT NOT NULL,
    is_system BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_folded TEXT NOT NULL,
    description TEXT,
    description_folded TEXT,
    mask TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revoked_at BIGINT,
    version BIGINT NOT NULL,
    mac BLOB NOT NULL
);

-- For the list as it is mostly asked for.
CREATE INDEX live_api_keys_by_project ON api_keys (project_id, created_at, id) WHERE revoked_at IS NULL;

-- One row: number and hash of the newest audit entry, the sum of the MACs of all live keys, and a MAC over the three.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash BLOB NOT NULL,
    live_sum BLOB NOT NULL,
    mac BLOB NOT NULL
);

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

-- What followers of this store apply, in order; `seq` is that of the audit entry.
CREATE TABLE changes (
    seq BIGINT PRIMARY KEY,
    key_id BIGINT NOT NULL
);

-- Replies to requests with an Idempotency-Key, sealed so that only the caller's own key opens them.
CREATE TABLE replies (
    lookup BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    salt BLOB NOT NULL,
    sealed BLOB NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX replies_by_expiry ON replies (expires_at);
