-- The knowledge base. Never edited once released: a change is a new file beside this one.
--
-- The same tables as in SQLite (../sqlite), in the schema aiops. Times are UTC ISO 8601 text with Z
-- to the microsecond and nested values canonical JSON text (json, not jsonb, may hold \u0000), so
-- that a row is the same row in both. Texts are ordered by their code points, as SQLite does it.

CREATE TABLE base (id text NOT NULL);
CREATE UNIQUE INDEX base_only ON base ((true));
INSERT INTO base (id) VALUES (left(replace(gen_random_uuid()::text, '-', ''), 16));

CREATE TABLE instances (
    name text PRIMARY KEY,
    url text NOT NULL
);

CREATE TABLE watermarks (
    instance text PRIMARY KEY,
    at text NOT NULL
);

CREATE TABLE marks (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- Entries: one row a version; the newest version of an id is the entry. `digest` is of `content`.

CREATE TABLE entries (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    source text COLLATE "C" NOT NULL,
    content text NOT NULL,
    digest text NOT NULL,
    created_at text COLLATE "C" NOT NULL,
    recorded_at text COLLATE "C" NOT NULL
);
CREATE INDEX entries_by_id ON entries (id, seq);
CREATE INDEX entries_by_kind ON entries (kind);
CREATE INDEX entries_by_source ON entries (source);

CREATE TABLE retirements (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry bigint NOT NULL UNIQUE REFERENCES entries (seq),
    by text NOT NULL,
    at text NOT NULL,
    reason text NOT NULL
);

CREATE VIEW newest_entries AS
SELECT e.*, EXISTS (SELECT 1 FROM retirements AS r WHERE r.entry = e.seq) AS retired
FROM entries AS e
WHERE e.seq = (SELECT max(v.seq) FROM entries AS v WHERE v.id = e.id);

CREATE TABLE symptoms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry bigint NOT NULL REFERENCES entries (seq),
    position integer NOT NULL,
    fingerprint text NOT NULL
);
CREATE INDEX symptoms_by_entry ON symptoms (entry);
CREATE INDEX symptoms_by_fingerprint ON symptoms (fingerprint);

-- Words and vectors are kept for live versions only. Words come from our own tokeniser, as in
-- SQLite: Postgres' parser keeps dotted names whole. `length` counts them with repetitions.
CREATE TABLE symptom_words (
    symptom bigint PRIMARY KEY REFERENCES symptoms (id),
    words tsvector NOT NULL,
    length integer NOT NULL
);
CREATE INDEX symptom_words_by_word ON symptom_words USING gin (words);

-- In how many symptoms each word is, for BM25, which ts_rank does not know. The row '' counts the
-- symptoms themselves, and in `length` all of their words.
CREATE TABLE word_counts (
    word text COLLATE "C" PRIMARY KEY,
    symptoms bigint NOT NULL,
    length bigint NOT NULL DEFAULT 0
);
INSERT INTO word_counts (word, symptoms) VALUES ('', 0);

CREATE TABLE vector_spaces (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    embedder text NOT NULL,
    dimensions integer NOT NULL,
    signature_version integer NOT NULL,
    state text NOT NULL UNIQUE CHECK (state IN ('active', 'building')),
    done bigint NOT NULL DEFAULT 0
);

CREATE TABLE vectors (
    space bigint NOT NULL REFERENCES vector_spaces (id),
    symptom bigint NOT NULL REFERENCES symptoms (id),
    embedding vector NOT NULL,
    PRIMARY KEY (space, symptom)
);
CREATE INDEX vectors_by_symptom ON vectors (symptom);
-- In the row and not compressed while it fits there (to 2,000 dimensions): to look at each of 10,000
-- vectors of the built-in embedder, which are sparse, cost four times as much compressed.
ALTER TABLE vectors ALTER COLUMN embedding SET STORAGE MAIN;
ALTER TABLE vectors SET (toast_tuple_target = 8160);

-- Incidents and what was thought of them.

CREATE TABLE incidents (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    kind text NOT NULL,
    instance text NOT NULL,
    dag_id text COLLATE "C" NOT NULL,
    run_id text NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    map_index integer NOT NULL,
    try_number integer NOT NULL,
    ti_id text,
    failed_at text COLLATE "C" NOT NULL,
    seen_at text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL,
    signature text NOT NULL,
    excerpt text NOT NULL,
    context text NOT NULL,
    group_id text COLLATE "C",
    group_key text NOT NULL DEFAULT ''
);
CREATE INDEX incidents_by_time ON incidents (failed_at, seq);
CREATE INDEX incidents_by_task ON incidents (instance, dag_id, task_id, run_id, map_index);
CREATE INDEX incidents_by_dag ON incidents (dag_id text_pattern_ops, failed_at);
CREATE INDEX incidents_by_fingerprint ON incidents (fingerprint);
CREATE INDEX incidents_by_group ON incidents (group_id, failed_at, seq)
    WHERE group_id IS NOT NULL;
CREATE INDEX incidents_by_group_key ON incidents (instance, group_key, failed_at, seq)
    WHERE group_key <> '';
CREATE VIEW grouped AS SELECT group_id AS id FROM incidents WHERE group_id IS NOT NULL;

CREATE TABLE judgements (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL REFERENCES incidents (id),
    at text NOT NULL,
    document text NOT NULL
);
CREATE INDEX judgements_by_incident ON judgements (incident_id, seq);

CREATE TABLE remarks (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL REFERENCES incidents (id),
    by text NOT NULL,
    at text NOT NULL,
    text text NOT NULL
);
CREATE INDEX remarks_by_incident ON remarks (incident_id, seq);

CREATE TABLE snoozes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL REFERENCES incidents (id),
    until text COLLATE "C" NOT NULL,
    by text NOT NULL,
    at text NOT NULL
);
CREATE INDEX snoozes_by_incident ON snoozes (incident_id, seq);

-- Decisions and what came of them. `at` is the caller's word, `recorded_at` the server's clock.

CREATE TABLE decisions (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL REFERENCES incidents (id),
    kind text NOT NULL CHECK (kind IN ('approve', 'reject', 'auto', 'shadow', 'superseded')),
    at text COLLATE "C" NOT NULL,
    recorded_at text COLLATE "C" NOT NULL,
    by text NOT NULL,
    action text,
    params text NOT NULL,
    cause text NOT NULL,
    reason text NOT NULL,
    plan text NOT NULL,
    grant_id text
);
CREATE INDEX decisions_by_incident ON decisions (incident_id, seq);
CREATE INDEX decisions_by_time ON decisions (kind, recorded_at);

-- A decision whose claim was given back because nothing was done under it, or that was taken back
-- (then `by` says by whom).
CREATE TABLE voided (
    decision bigint PRIMARY KEY REFERENCES decisions (seq),
    at text NOT NULL,
    by text
);

CREATE VIEW standing_decisions AS
SELECT d.* FROM decisions AS d
WHERE NOT EXISTS (SELECT 1 FROM voided AS v WHERE v.decision = d.seq);

CREATE TABLE outcomes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL REFERENCES incidents (id),
    decision bigint NOT NULL REFERENCES decisions (seq),
    at text NOT NULL,
    outcome text NOT NULL
        CHECK (outcome IN ('fixed', 'failed', 'relapsed', 'superseded', 'unknown')),
    detail text NOT NULL,
    try_number integer
);
CREATE INDEX outcomes_by_incident ON outcomes (incident_id, seq);
CREATE INDEX outcomes_of_decision ON outcomes (decision, seq, outcome);

CREATE TABLE harms (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL REFERENCES incidents (id),
    decision bigint NOT NULL REFERENCES decisions (seq),
    by text NOT NULL,
    at text NOT NULL,
    reason text NOT NULL
);
CREATE INDEX harms_by_incident ON harms (incident_id, seq);
CREATE INDEX harms_by_decision ON harms (decision);

CREATE TABLE vouches (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision bigint NOT NULL REFERENCES decisions (seq),
    instance text NOT NULL,
    dag_id text NOT NULL,
    task_id text NOT NULL,
    fingerprint text,
    safe integer NOT NULL CHECK (safe IN (0, 1)),
    by text NOT NULL,
    at text NOT NULL,
    reason text NOT NULL
);
CREATE INDEX vouches_by_task ON vouches (instance, dag_id, task_id);

-- Claims: who may act, at most once. A row that is given back is deleted, so tokens are drawn
-- from a counter of their own: a token must never come back under another owner.

CREATE TABLE claim_tokens (last bigint NOT NULL);
CREATE UNIQUE INDEX claim_tokens_only ON claim_tokens ((true));
INSERT INTO claim_tokens (last) VALUES (0);

CREATE TABLE claims (
    incident_id text COLLATE "C" PRIMARY KEY REFERENCES incidents (id),
    ti_id text UNIQUE,
    state text NOT NULL CHECK (state IN ('claimed', 'acting', 'done', 'needs_human')),
    token bigint NOT NULL,
    owner text NOT NULL,
    lease_until text COLLATE "C" NOT NULL,
    decision bigint REFERENCES decisions (seq),
    not_before text,
    progress text NOT NULL DEFAULT '{}'
);
CREATE INDEX claims_by_state ON claims (state, token);

-- Leave to act alone.

CREATE TABLE grants (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    actions text NOT NULL,
    dags text NOT NULL,
    by text NOT NULL,
    at text NOT NULL,
    max_per_hour integer NOT NULL,
    max_per_dag_hour integer NOT NULL,
    until text
);

CREATE TABLE revocations (
    grant_id text COLLATE "C" PRIMARY KEY REFERENCES grants (id),
    by text NOT NULL,
    at text NOT NULL
);

-- The newest row holds.
CREATE TABLE pauses (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    paused integer NOT NULL CHECK (paused IN (0, 1)),
    by text NOT NULL,
    at text,
    reason text NOT NULL
);

-- `target` is a DAG glob or the full id of an incident.
CREATE TABLE holds (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    instance text NOT NULL,
    target text COLLATE "C" NOT NULL,
    by text NOT NULL,
    at text NOT NULL,
    until text COLLATE "C",
    reason text NOT NULL
);

CREATE TABLE hold_ends (
    hold_id text COLLATE "C" PRIMARY KEY REFERENCES holds (id),
    by text NOT NULL,
    at text NOT NULL
);

-- Who took in what another knowledge base exported: the decisions of it bear other names.
CREATE TABLE imports (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    base text NOT NULL,
    by text NOT NULL,
    at text NOT NULL
);

-- The audit log: a chain of hashes over what the other tables hold (knowledge/stores/sql_audit.py).
CREATE TABLE audit (
    seq bigint PRIMARY KEY CHECK (seq > 0),
    at text COLLATE "C" NOT NULL,
    what text NOT NULL,
    ref text NOT NULL,
    document text NOT NULL,
    prev text NOT NULL,
    hash text NOT NULL UNIQUE,
    UNIQUE (what, ref)
);
CREATE INDEX audit_by_time ON audit (at);
