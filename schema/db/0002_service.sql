-- SPDX-License-Identifier: Apache-2.0
-- Whose a job is, tags, deletions, and what robots report.

-- The token that submitted it, for its quota of queued jobs; NULL when none was needed.
ALTER TABLE job ADD COLUMN token TEXT;
CREATE INDEX job_token ON job (token, state) WHERE token IS NOT NULL;

CREATE TABLE tag (
    model TEXT NOT NULL REFERENCES model (id),
    tag   TEXT NOT NULL CHECK (length(tag) BETWEEN 1 AND 128),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (model, tag)
) STRICT;
CREATE INDEX tag_tag ON tag (tag, model);

-- What was deleted: its version is never given again, so that name/3 never means two things.
CREATE TABLE tombstone (
    id      TEXT PRIMARY KEY NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('model', 'dataset')),
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    sha256  TEXT NOT NULL,
    actor   TEXT,
    at_ms   INTEGER NOT NULL,
    UNIQUE (kind, name, version)
) STRICT;

CREATE TABLE episode (
    id         TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'epi_*'),
    model      TEXT NOT NULL REFERENCES model (id),
    task       TEXT NOT NULL REFERENCES task (id),
    robot      TEXT NOT NULL CHECK (length(robot) BETWEEN 1 AND 128),
    steps      INTEGER NOT NULL CHECK (steps >= 1),
    cost       REAL NOT NULL,
    success    INTEGER CHECK (success IN (0, 1)), -- NULL: the robot does not say
    metrics    TEXT CHECK (metrics IS NULL OR json_valid(metrics)),
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX episode_model ON episode (model, task);
CREATE INDEX episode_task ON episode (task);

-- Sums of the above by model and task, so that a curve costs as many rows as it has points.
CREATE TABLE episode_total (
    seq       INTEGER PRIMARY KEY,
    model     TEXT NOT NULL REFERENCES model (id),
    task      TEXT NOT NULL REFERENCES task (id),
    episodes  INTEGER NOT NULL,
    judged    INTEGER NOT NULL, -- those that say whether they succeeded
    successes INTEGER NOT NULL,
    steps     INTEGER NOT NULL,
    cost      REAL NOT NULL,
    cost_min  REAL NOT NULL,
    cost_max  REAL NOT NULL,
    last_ms   INTEGER NOT NULL,
    UNIQUE (model, task)
) STRICT;
CREATE INDEX episode_total_task ON episode_total (task);
CREATE TRIGGER episode_counts AFTER INSERT ON episode
BEGIN
    INSERT INTO episode_total (model, task, episodes, judged, successes, steps, cost, cost_min, cost_max, last_ms)
    VALUES (NEW.model, NEW.task, 1, NEW.success IS NOT NULL, ifnull(NEW.success, 0), NEW.steps, NEW.cost, NEW.cost, NEW.cost, NEW.created_ms)
    ON CONFLICT (model, task) DO UPDATE SET episodes = episodes + 1, judged = judged + excluded.judged, successes = successes + excluded.successes,
        steps = steps + excluded.steps, cost = cost + excluded.cost, cost_min = min(cost_min, excluded.cost_min),
        cost_max = max(cost_max, excluded.cost_max), last_ms = excluded.last_ms;
END;
