ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'task';
CREATE INDEX runs_by_kind ON runs (kind, id);
CREATE INDEX runs_by_erasure ON runs (site, erased_at);
ALTER TABLE slices ADD COLUMN model TEXT NOT NULL DEFAULT '';
CREATE TABLE gateway_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    run TEXT NOT NULL UNIQUE REFERENCES runs (id),
    owner TEXT NOT NULL REFERENCES users (id),
    site TEXT NOT NULL REFERENCES sites (id),
    hash TEXT NOT NULL UNIQUE,
    models TEXT NOT NULL,
    budget TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    ended_at BIGINT
);
CREATE INDEX gateway_tokens_by_owner ON gateway_tokens (owner, id);
CREATE INDEX gateway_tokens_by_site ON gateway_tokens (site, ended_at, id);
CREATE INDEX gateway_tokens_by_end ON gateway_tokens (ended_at, expires_at);
CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);
CREATE TABLE group_members (
    team TEXT NOT NULL REFERENCES groups (id),
    member TEXT NOT NULL REFERENCES users (id),
    added_at BIGINT NOT NULL,
    PRIMARY KEY (team, member)
);
CREATE INDEX group_members_by_member ON group_members (member, team);
CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    opened TEXT NOT NULL UNIQUE,
    closed TEXT,
    runner TEXT NOT NULL,
    run TEXT NOT NULL,
    project TEXT,
    repository TEXT NOT NULL,
    person TEXT,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    provider TEXT NOT NULL,
    dialect TEXT NOT NULL,
    client TEXT NOT NULL,
    session TEXT NOT NULL,
    turn BIGINT NOT NULL,
    status TEXT NOT NULL,
    code TEXT,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_ms BIGINT
);
CREATE INDEX calls_by_person ON calls (person, id);
CREATE INDEX calls_by_project ON calls (project, id);
CREATE INDEX calls_by_model ON calls (model, id);
CREATE INDEX calls_by_provider ON calls (provider, id);
CREATE INDEX calls_by_session ON calls (session, id);
CREATE INDEX calls_by_run ON calls (run, id);
CREATE INDEX calls_by_client ON calls (client, id);
CREATE INDEX calls_by_status ON calls (status, id);
CREATE TABLE call_sessions (
    session TEXT NOT NULL,
    run TEXT NOT NULL,
    project TEXT,
    person TEXT,
    client TEXT NOT NULL,
    calls BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    first_call TEXT NOT NULL UNIQUE,
    PRIMARY KEY (session, run)
);
CREATE INDEX call_sessions_by_person ON call_sessions (person, first_call);
CREATE INDEX call_sessions_by_project ON call_sessions (project, first_call);
CREATE TABLE call_days (
    day BIGINT NOT NULL,
    person TEXT NOT NULL,
    project TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    client TEXT NOT NULL,
    calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (day, person, project, model, provider, client)
);
