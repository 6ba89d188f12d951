CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE locks (
    name TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO locks (name, version) VALUES ('bootstrap', 0), ('bundles', 0), ('money', 0);
CREATE TABLE servers (
    id TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    roles TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX tokens_by_owner ON tokens (owner);
CREATE TABLE sites (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    public_key TEXT,
    created_at BIGINT NOT NULL
);
CREATE TABLE enroll_tokens (
    hash TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (id),
    author TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_by TEXT
);
CREATE TABLE runners (
    id TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    listener TEXT NOT NULL,
    bundle BIGINT NOT NULL,
    spooled BIGINT NOT NULL,
    away_since BIGINT,
    enrolled_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE TABLE revisions (
    runner TEXT PRIMARY KEY REFERENCES runners (id),
    revision BIGINT NOT NULL
);
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    repository TEXT NOT NULL,
    base_branch TEXT NOT NULL,
    gates TEXT NOT NULL,
    gate_attempts BIGINT NOT NULL,
    level BIGINT NOT NULL,
    site TEXT REFERENCES sites (id),
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE bundles (
    number BIGINT PRIMARY KEY,
    body TEXT NOT NULL,
    author TEXT,
    created_at BIGINT NOT NULL
);
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    owner TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL
);
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL REFERENCES tasks (id),
    project TEXT NOT NULL REFERENCES projects (id),
    owner TEXT NOT NULL REFERENCES users (id),
    site TEXT NOT NULL REFERENCES sites (id),
    state TEXT NOT NULL,
    cause TEXT,
    wanted TEXT,
    version BIGINT NOT NULL,
    runner TEXT REFERENCES runners (id),
    environment TEXT,
    fence BIGINT NOT NULL,
    fence_since BIGINT NOT NULL,
    fence_seen BIGINT NOT NULL,
    lease_runner TEXT,
    lease_until BIGINT,
    spec TEXT NOT NULL,
    project_spec TEXT NOT NULL,
    content TEXT NOT NULL,
    turn BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    tokens TEXT NOT NULL,
    change_made TEXT,
    events BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    updated_at BIGINT NOT NULL,
    erased_at BIGINT
);
CREATE INDEX runs_by_project ON runs (project, id);
CREATE INDEX runs_by_owner ON runs (owner, id);
CREATE INDEX runs_by_state ON runs (state, id);
CREATE INDEX runs_by_runner ON runs (runner, id);
CREATE TABLE run_keys (
    run TEXT PRIMARY KEY REFERENCES runs (id),
    wrapped TEXT NOT NULL
);
CREATE TABLE environments (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES runs (id),
    runner TEXT NOT NULL REFERENCES runners (id),
    desired TEXT NOT NULL,
    generation BIGINT NOT NULL,
    observed TEXT NOT NULL,
    observed_generation BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX environments_by_run ON environments (run);
CREATE INDEX environments_by_runner ON environments (runner, observed);
CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES runs (id),
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    policy TEXT NOT NULL,
    content TEXT,
    state TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    author TEXT REFERENCES users (id),
    answered_at BIGINT,
    noted_at BIGINT
);
CREATE INDEX approvals_by_run ON approvals (run, id);
CREATE INDEX approvals_by_state ON approvals (state, expires_at);
CREATE TABLE replies (
    run TEXT NOT NULL REFERENCES runs (id),
    number BIGINT NOT NULL,
    content TEXT NOT NULL,
    sealed BLOB NOT NULL,
    author TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, number)
);
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (id),
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, number)
);
CREATE TABLE contents (
    run TEXT NOT NULL,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    len BIGINT NOT NULL,
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, digest)
);
CREATE TABLE spools (
    runner TEXT PRIMARY KEY REFERENCES runners (id),
    next BIGINT NOT NULL
);
CREATE TABLE refusals (
    runner TEXT NOT NULL,
    position BIGINT NOT NULL,
    run TEXT,
    why TEXT NOT NULL,
    entry TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (runner, position)
);
CREATE TABLE ledgers (
    producer TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    frontier TEXT NOT NULL,
    root TEXT NOT NULL,
    note TEXT NOT NULL,
    note_size BIGINT NOT NULL,
    noted_at BIGINT NOT NULL
);
CREATE TABLE records (
    producer TEXT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    at BIGINT NOT NULL,
    phase TEXT NOT NULL,
    run TEXT,
    project TEXT,
    principal TEXT,
    person TEXT,
    action TEXT,
    canonical TEXT NOT NULL,
    leaf TEXT NOT NULL,
    PRIMARY KEY (producer, seq)
);
CREATE INDEX records_by_run ON records (run, id);
CREATE INDEX records_by_project ON records (project, id);
CREATE INDEX records_by_principal ON records (principal, id);
CREATE INDEX records_by_person ON records (person, id);
CREATE INDEX records_by_action ON records (action, id);
CREATE TABLE budgets (
    id TEXT PRIMARY KEY,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    period TEXT NOT NULL,
    limit_nanos BIGINT NOT NULL CHECK (limit_nanos >= 0),
    ceiling BIGINT NOT NULL CHECK (ceiling >= limit_nanos),
    spent BIGINT NOT NULL CHECK (spent >= 0),
    leased BIGINT NOT NULL CHECK (leased >= 0),
    period_start BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (scope, subject, period),
    CHECK (spent + leased <= ceiling)
);
CREATE TABLE budget_periods (
    budget TEXT NOT NULL REFERENCES budgets (id),
    period_start BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    limit_nanos BIGINT NOT NULL,
    PRIMARY KEY (budget, period_start)
);
CREATE TABLE slices (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES runs (id),
    runner TEXT NOT NULL REFERENCES runners (id),
    amount BIGINT NOT NULL CHECK (amount > 0),
    spent BIGINT NOT NULL CHECK (spent >= 0),
    returned BIGINT NOT NULL CHECK (returned >= 0),
    is_open BIGINT NOT NULL,
    told BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK (spent + returned <= amount)
);
CREATE INDEX slices_by_run ON slices (run);
CREATE INDEX slices_open ON slices (is_open, told);
CREATE TABLE slice_budgets (
    slice TEXT NOT NULL REFERENCES slices (id),
    budget TEXT NOT NULL REFERENCES budgets (id),
    PRIMARY KEY (slice, budget)
);
CREATE TABLE settlements (
    slice TEXT NOT NULL REFERENCES slices (id),
    call_id TEXT NOT NULL,
    run TEXT NOT NULL REFERENCES runs (id),
    spent BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (slice, call_id)
);
CREATE INDEX settlements_by_time ON settlements (created_at);
