CREATE TABLE connections (
    id TEXT PRIMARY KEY,
    closed TEXT,
    parent TEXT,
    runner TEXT NOT NULL,
    run TEXT NOT NULL,
    project TEXT,
    environment TEXT NOT NULL,
    action TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT,
    protocol TEXT,
    inspected BIGINT,
    method TEXT,
    upgrade TEXT,
    repository TEXT,
    ref TEXT,
    credential TEXT,
    decision TEXT NOT NULL,
    policy TEXT,
    title TEXT,
    approval TEXT,
    status TEXT NOT NULL,
    code TEXT,
    http_status BIGINT,
    bytes_out BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    address TEXT,
    left_out BIGINT NOT NULL,
    notable BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    closed_at BIGINT,
    noted_at BIGINT NOT NULL
);
CREATE INDEX connections_by_run ON connections (run, id);
CREATE INDEX connections_by_run_and_change ON connections (run, noted_at, id);
CREATE INDEX connections_by_change ON connections (noted_at, id);
CREATE INDEX connections_by_project ON connections (project, id);
CREATE INDEX connections_by_host ON connections (host, id);
CREATE INDEX connections_by_action ON connections (action, id);
CREATE INDEX connections_by_decision ON connections (decision, id);
CREATE INDEX connections_by_status ON connections (status, id);
CREATE TABLE connection_sums (
    run TEXT NOT NULL,
    action TEXT NOT NULL,
    decision TEXT NOT NULL,
    times BIGINT NOT NULL,
    left_out BIGINT NOT NULL,
    hosts BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (run, action, decision)
);
CREATE TABLE connection_hosts (
    run TEXT NOT NULL,
    action TEXT NOT NULL,
    decision TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    times BIGINT NOT NULL,
    left_out BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (run, action, decision, host, port)
);
