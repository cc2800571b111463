-- What the program's role needs, and no more: `aiops kb migrate --role ROLE` gives it, anew after
-- each migration. It can neither change the schema nor what is written, nor choose the number of
-- what it appends: columns that Postgres numbers are not listed.

REVOKE ALL ON ALL TABLES IN SCHEMA aiops FROM {role};
REVOKE ALL ON SCHEMA aiops FROM {role};

GRANT USAGE ON SCHEMA aiops TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA aiops TO {role};

GRANT INSERT ON
    aiops.instances, aiops.voided, aiops.revocations, aiops.hold_ends, aiops.audit
TO {role};
GRANT INSERT (id, kind, source, content, digest, created_at, recorded_at)
    ON aiops.entries TO {role};
GRANT INSERT (entry, by, at, reason) ON aiops.retirements TO {role};
GRANT INSERT (entry, position, fingerprint) ON aiops.symptoms TO {role};
GRANT INSERT (
    id, kind, instance, dag_id, run_id, task_id, map_index, try_number, ti_id, failed_at, seen_at,
    fingerprint, signature, excerpt, context, group_id, group_key
) ON aiops.incidents TO {role};
GRANT INSERT (incident_id, at, document) ON aiops.judgements TO {role};
GRANT INSERT (incident_id, by, at, text) ON aiops.remarks TO {role};
GRANT INSERT (incident_id, until, by, at) ON aiops.snoozes TO {role};
GRANT INSERT (
    incident_id, kind, at, recorded_at, by, action, params, cause, reason, plan, grant_id
) ON aiops.decisions TO {role};
GRANT INSERT (incident_id, decision, at, outcome, detail, try_number) ON aiops.outcomes TO {role};
GRANT INSERT (incident_id, decision, by, at, reason) ON aiops.harms TO {role};
GRANT INSERT (decision, instance, dag_id, task_id, fingerprint, safe, by, at, reason)
    ON aiops.vouches TO {role};
GRANT INSERT (id, actions, dags, by, at, max_per_hour, max_per_dag_hour, until)
    ON aiops.grants TO {role};
GRANT INSERT (paused, by, at, reason) ON aiops.pauses TO {role};
GRANT INSERT (id, instance, target, by, at, until, reason) ON aiops.holds TO {role};
GRANT INSERT (base, by, at) ON aiops.imports TO {role};
GRANT INSERT (
    incident_id, instance, dag_id, run_id, task_id, map_index, try_number, failed_at, fingerprint,
    signature, mode, at, outcome, seen_at, action, params, by, detail, ended_at, version
) ON aiops.lessons TO {role};

GRANT INSERT, UPDATE, DELETE ON aiops.claims TO {role};
GRANT INSERT (embedder, dimensions, signature_version, state, done), UPDATE, DELETE
    ON aiops.vector_spaces TO {role};
GRANT UPDATE ON aiops.claim_tokens TO {role};
GRANT INSERT, UPDATE ON aiops.watermarks, aiops.marks, aiops.word_counts TO {role};
GRANT INSERT, DELETE ON aiops.symptom_words, aiops.vectors TO {role};
