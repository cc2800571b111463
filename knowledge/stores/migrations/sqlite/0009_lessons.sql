-- What ended a failed try without this tool, one row for each try: mined from Airflow's history, or
-- noticed where somebody was faster. The tries need not be stored as incidents.
CREATE TABLE lessons (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL UNIQUE,
    instance TEXT NOT NULL,
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    map_index INTEGER NOT NULL,
    try_number INTEGER NOT NULL,
    failed_at TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    signature TEXT NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('person', 'airflow')),
    at TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('fixed', 'failed', 'unknown')),
    seen_at TEXT NOT NULL,
    action TEXT,
    params TEXT NOT NULL,
    by TEXT NOT NULL,
    detail TEXT NOT NULL,
    ended_at TEXT,
    version INTEGER
) STRICT;
CREATE INDEX lessons_by_fingerprint ON lessons (fingerprint, seq);

CREATE TRIGGER lessons_no_update BEFORE UPDATE ON lessons
BEGIN SELECT RAISE(ABORT, 'lessons is append-only'); END;
CREATE TRIGGER lessons_no_delete BEFORE DELETE ON lessons
BEGIN SELECT RAISE(ABORT, 'lessons is append-only'); END;
CREATE TRIGGER lessons_no_replace BEFORE INSERT ON lessons
WHEN EXISTS (SELECT 1 FROM lessons WHERE seq = NEW.seq OR incident_id = NEW.incident_id)
BEGIN SELECT RAISE(ABORT, 'lessons is append-only'); END;
