-- The knowledge base. Never edited once released: a change is a new file beside this one.
--
-- Times are UTC ISO 8601 text with Z to the microsecond; nested values are canonical JSON text.
-- What is append-only is guarded in 0002. Each migration runs inside a transaction.

CREATE TABLE base (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL
) STRICT;
INSERT INTO base (only, id) VALUES (1, lower(hex(randomblob(8))));

CREATE TABLE instances (
    name TEXT PRIMARY KEY,
    url TEXT NOT NULL
) STRICT;

CREATE TABLE watermarks (
    instance TEXT PRIMARY KEY,
    at TEXT NOT NULL
) STRICT;

-- Entries: one row a version; the newest version of an id is the entry. `digest` is of `content`.

CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    content TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    recorded_at TEXT NOT NULL
) STRICT;
CREATE INDEX entries_by_id ON entries (id, seq);

CREATE TABLE retirements (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    entry INTEGER NOT NULL UNIQUE REFERENCES entries (seq),
    by TEXT NOT NULL,
    at TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE VIEW newest_entries AS
SELECT e.*, EXISTS (SELECT 1 FROM retirements AS r WHERE r.entry = e.seq) AS retired
FROM entries AS e
WHERE e.seq = (SELECT max(v.seq) FROM entries AS v WHERE v.id = e.id);

-- One row a symptom of a version, in the entry's order. `id` is the rowid of its vector and of
-- its words; both of these are kept for live versions only.
CREATE TABLE symptoms (
    id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    entry INTEGER NOT NULL REFERENCES entries (seq),
    position INTEGER NOT NULL,
    fingerprint TEXT NOT NULL
) STRICT;
CREATE INDEX symptoms_by_entry ON symptoms (entry);
CREATE INDEX symptoms_by_fingerprint ON symptoms (fingerprint);

-- Words come tokenised and joined by spaces, so only spaces (category Z) may part them here.
CREATE VIRTUAL TABLE symptom_words USING fts5 (
    words,
    content = '',
    contentless_delete = 1,
    tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* P* S* C*'"
);

-- Vectors lie in vec_<dimensions>, which is made when the first one comes.
CREATE TABLE vector_space (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    embedder TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    signature_version INTEGER NOT NULL
) STRICT;

-- Incidents and what was thought of them.

CREATE TABLE incidents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    instance TEXT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index INTEGER NOT NULL,
    try_number INTEGER NOT NULL,
    ti_id TEXT,
    failed_at TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    signature TEXT NOT NULL,
    excerpt TEXT NOT NULL,
    context TEXT NOT NULL,
    group_id TEXT
) STRICT;
CREATE INDEX incidents_by_time ON incidents (failed_at, seq);
CREATE INDEX incidents_by_task ON incidents (instance, dag_id, task_id, run_id, map_index);
CREATE INDEX incidents_by_fingerprint ON incidents (fingerprint);

CREATE TABLE judgements (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    at TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX judgements_by_incident ON judgements (incident_id, seq);

-- Decisions and what came of them. `at` is the caller's word, `recorded_at` the store's clock.

CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    kind TEXT NOT NULL CHECK (kind IN ('approve', 'reject', 'auto', 'shadow', 'superseded')),
    at TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    by TEXT NOT NULL,
    action TEXT,
    params TEXT NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL,
    plan TEXT NOT NULL,
    grant_id TEXT
) STRICT;
CREATE INDEX decisions_by_incident ON decisions (incident_id, seq);
CREATE INDEX decisions_by_time ON decisions (kind, recorded_at);

-- A decision whose claim was given back because nothing was done under it.
CREATE TABLE voided (
    decision INTEGER PRIMARY KEY REFERENCES decisions (seq),
    at TEXT NOT NULL
) STRICT;

CREATE VIEW standing_decisions AS
SELECT d.* FROM decisions AS d
WHERE NOT EXISTS (SELECT 1 FROM voided AS v WHERE v.decision = d.seq);

CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    decision INTEGER NOT NULL REFERENCES decisions (seq),
    at TEXT NOT NULL,
    outcome TEXT NOT NULL
        CHECK (outcome IN ('fixed', 'failed', 'relapsed', 'superseded', 'unknown')),
    detail TEXT NOT NULL,
    try_number INTEGER
) STRICT;
CREATE INDEX outcomes_by_incident ON outcomes (incident_id, seq);
CREATE INDEX outcomes_by_decision ON outcomes (decision, seq);

CREATE TABLE vouches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    decision INTEGER NOT NULL REFERENCES decisions (seq),
    instance TEXT NOT NULL,
    dag_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    fingerprint TEXT,
    safe INTEGER NOT NULL CHECK (safe IN (0, 1)),
    by TEXT NOT NULL,
    at TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX vouches_by_task ON vouches (instance, dag_id, task_id);

-- Claims: who may act, at most once. A row that is given back is deleted, so tokens are drawn
-- from a counter of their own: a token must never come back under another owner.

CREATE TABLE claim_tokens (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO claim_tokens (only, last) VALUES (1, 0);

CREATE TABLE claims (
    incident_id TEXT PRIMARY KEY REFERENCES incidents (id),
    ti_id TEXT UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('claimed', 'acting', 'done', 'needs_human')),
    token INTEGER NOT NULL,
    owner TEXT NOT NULL,
    lease_until TEXT NOT NULL,
    decision INTEGER REFERENCES decisions (seq),
    not_before TEXT,
    progress TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX claims_by_state ON claims (state, token);

-- Leave to act alone.

CREATE TABLE grants (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    id TEXT NOT NULL UNIQUE,
    actions TEXT NOT NULL,
    dags TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL,
    max_per_hour INTEGER NOT NULL,
    max_per_dag_hour INTEGER NOT NULL,
    until TEXT
) STRICT;

CREATE TABLE revocations (
    grant_id TEXT PRIMARY KEY REFERENCES grants (id),
    by TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;

-- The newest row holds.
CREATE TABLE pauses (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
    by TEXT NOT NULL,
    at TEXT,
    reason TEXT NOT NULL
) STRICT;
