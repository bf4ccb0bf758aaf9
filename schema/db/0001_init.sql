-- SPDX-License-Identifier: Apache-2.0
-- The registry's first schema. Times are milliseconds since 1970 UTC; hashes are SHA-256 in hex; ids sort by creation.
-- Datasets, models, certificates and tasks never change once written: only jobs and aliases do.

CREATE TABLE dataset (
    id           TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'dat_*'),
    name         TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    version      INTEGER NOT NULL CHECK (version >= 1),
    sha256       TEXT NOT NULL CHECK (length(sha256) = 64),
    format       TEXT NOT NULL CHECK (format IN ('ndjson', 'csv')),
    trajectories INTEGER NOT NULL CHECK (trajectories >= 1),
    transitions  INTEGER NOT NULL CHECK (transitions >= 1),
    ny           INTEGER NOT NULL CHECK (ny >= 1),
    nu           INTEGER NOT NULL CHECK (nu >= 0),
    bytes        INTEGER NOT NULL CHECK (bytes >= 1),
    created_ms   INTEGER NOT NULL,
    UNIQUE (name, version),
    UNIQUE (name, sha256, format)
) STRICT;
CREATE INDEX dataset_created ON dataset (created_ms, id);

CREATE TABLE job (
    id          TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'job_*'),
    kind        TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 15),
    state       TEXT NOT NULL CHECK (state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'timed_out')),
    priority    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    crashes     INTEGER NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    run_limit_s REAL NOT NULL CHECK (run_limit_s >= 0),
    spec        TEXT NOT NULL CHECK (json_valid(spec)),
    progress    TEXT CHECK (progress IS NULL OR json_valid(progress)),
    result      TEXT CHECK (result IS NULL OR json_valid(result)),
    error       TEXT CHECK (error IS NULL OR json_valid(error)),
    created_ms  INTEGER NOT NULL,
    started_ms  INTEGER,
    ended_ms    INTEGER,
    CHECK ((ended_ms IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled', 'timed_out')))
) STRICT;
CREATE INDEX job_queue ON job (state, priority DESC, id);
CREATE INDEX job_created ON job (created_ms, id);

-- The moves of schema/states.def; tests/unit/test_registry.c holds the two against each other.
CREATE TRIGGER job_starts_queued BEFORE INSERT ON job WHEN NEW.state <> 'queued'
BEGIN
    SELECT RAISE(ABORT, 'a job starts queued');
END;
CREATE TRIGGER job_state_moves BEFORE UPDATE OF state ON job
WHEN NEW.state <> OLD.state AND (OLD.state || '>' || NEW.state) NOT IN (
    'queued>running', 'queued>cancelled',
    'running>queued', 'running>cancelling', 'running>succeeded', 'running>failed', 'running>timed_out',
    'cancelling>cancelled', 'cancelling>succeeded', 'cancelling>failed')
BEGIN
    SELECT RAISE(ABORT, 'no such move of a job');
END;
CREATE TRIGGER job_ended_is_final BEFORE UPDATE ON job
WHEN OLD.state IN ('succeeded', 'failed', 'cancelled', 'timed_out')
BEGIN
    SELECT RAISE(ABORT, 'an ended job does not change');
END;

CREATE TABLE job_event (
    job   TEXT NOT NULL REFERENCES job (id),
    seq   INTEGER NOT NULL CHECK (seq >= 1),
    type  TEXT NOT NULL CHECK (type IN ('state', 'progress', 'model', 'log')),
    data  TEXT NOT NULL CHECK (json_valid(data)),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT;
CREATE INDEX job_event_type ON job_event (job, type, seq);

CREATE TABLE model (
    id         TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'mdl_*'),
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    version    INTEGER NOT NULL CHECK (version >= 1),
    sha256     TEXT NOT NULL CHECK (length(sha256) = 64),
    kind       TEXT NOT NULL CHECK (kind IN ('dynamics', 'policy')),
    parent     TEXT REFERENCES model (id),
    dataset    TEXT REFERENCES dataset (id),
    job        TEXT REFERENCES job (id),
    ny         INTEGER NOT NULL CHECK (ny >= 1),
    nu         INTEGER NOT NULL CHECK (nu >= 0),
    history    INTEGER NOT NULL CHECK (history >= 1),
    relu       INTEGER NOT NULL CHECK (relu >= 0),
    parameters INTEGER NOT NULL CHECK (parameters >= 1),
    nonzero    INTEGER NOT NULL CHECK (nonzero BETWEEN 0 AND parameters),
    spec       TEXT CHECK (spec IS NULL OR json_valid(spec)),
    metrics    TEXT CHECK (metrics IS NULL OR json_valid(metrics)),
    created_ms INTEGER NOT NULL,
    UNIQUE (name, version)
) STRICT;
CREATE UNIQUE INDEX model_lineage ON model (name, sha256, ifnull(parent, ''), ifnull(dataset, ''), ifnull(spec, ''));
CREATE INDEX model_created ON model (created_ms, id);
CREATE INDEX model_relu ON model (relu, id);
CREATE INDEX model_parent ON model (parent);
CREATE INDEX model_dataset ON model (dataset);
CREATE INDEX model_job ON model (job);

CREATE TABLE alias (
    name       TEXT NOT NULL,
    alias      TEXT NOT NULL CHECK (length(alias) BETWEEN 1 AND 128),
    version    INTEGER NOT NULL,
    event      INTEGER NOT NULL, -- alias_event.seq of the last change
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES model (name, version)
) STRICT;
CREATE INDEX alias_version ON alias (name, version);

-- Which version was live when: only ever appended to.
CREATE TABLE alias_event (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL,
    alias       TEXT NOT NULL,
    old_version INTEGER,
    new_version INTEGER NOT NULL,
    actor       TEXT,
    at_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX alias_event_at ON alias_event (name, alias, at_ms, seq);

CREATE TABLE certificate (
    id            TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'cer_*'),
    model         TEXT NOT NULL REFERENCES model (id),
    reference     TEXT REFERENCES model (id),
    job           TEXT REFERENCES job (id),
    kind          TEXT NOT NULL,
    norm          TEXT NOT NULL,
    method        TEXT NOT NULL,
    strength      TEXT NOT NULL CHECK (strength IN ('proved', 'solver', 'statistical', 'empirical')),
    status        TEXT NOT NULL,
    domain_sha256 TEXT NOT NULL CHECK (length(domain_sha256) IN (0, 64)),
    value         REAL NOT NULL,
    lower         REAL NOT NULL,
    tolerance     REAL NOT NULL CHECK (tolerance >= 0),
    seconds       REAL NOT NULL CHECK (seconds >= 0),
    record        TEXT CHECK (record IS NULL OR json_valid(record)),
    created_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX certificate_model ON certificate (model, id);
CREATE INDEX certificate_reference ON certificate (reference);
CREATE INDEX certificate_job ON certificate (job);
CREATE INDEX certificate_created ON certificate (created_ms, id);
CREATE INDEX certificate_value ON certificate (value, id);

CREATE TABLE task (
    id         TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'tsk_*'),
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    version    INTEGER NOT NULL CHECK (version >= 1),
    model      TEXT NOT NULL REFERENCES model (id),
    body       TEXT NOT NULL CHECK (json_valid(body)),
    created_ms INTEGER NOT NULL,
    UNIQUE (name, version)
) STRICT;
CREATE INDEX task_created ON task (created_ms, id);
CREATE INDEX task_model ON task (model);

-- Replies to requests that carried an Idempotency-Key, kept for a day.
CREATE TABLE idempotency (
    key         TEXT NOT NULL,
    route       TEXT NOT NULL,
    fingerprint TEXT NOT NULL, -- SHA-256 of the request
    status      INTEGER NOT NULL,
    location    TEXT,
    body        TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (key, route)
) STRICT;
CREATE INDEX idempotency_created ON idempotency (created_ms);
