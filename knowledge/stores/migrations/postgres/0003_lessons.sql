-- What ended a failed try without this tool, one row for each try: mined from Airflow's history, or
-- noticed where somebody was faster. The tries need not be stored as incidents.
CREATE TABLE lessons (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id text COLLATE "C" NOT NULL UNIQUE,
    instance text NOT NULL,
    dag_id text NOT NULL,
    run_id text NOT NULL,
    task_id text NOT NULL,
    map_index integer NOT NULL,
    try_number integer NOT NULL,
    failed_at text NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    signature text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('person', 'airflow')),
    at text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('fixed', 'failed', 'unknown')),
    seen_at text NOT NULL,
    action text,
    params text NOT NULL,
    by text NOT NULL,
    detail text NOT NULL,
    ended_at text,
    version integer
);
CREATE INDEX lessons_by_fingerprint ON lessons (fingerprint, seq);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON lessons
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON lessons
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE lessons ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE lessons ENABLE ALWAYS TRIGGER never_truncated;
