-- What the program's role needs, and no more: `aiops kb migrate --role ROLE` gives it, anew after
-- each migration. It can neither change the schema nor what is written.

GRANT USAGE ON SCHEMA aiops TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA aiops TO {role};
GRANT INSERT ON
    aiops.instances, aiops.entries, aiops.retirements, aiops.symptoms, aiops.incidents,
    aiops.judgements, aiops.remarks, aiops.snoozes, aiops.decisions, aiops.voided,
    aiops.outcomes, aiops.harms, aiops.vouches, aiops.grants, aiops.revocations, aiops.pauses,
    aiops.holds, aiops.hold_ends, aiops.audit
TO {role};
GRANT INSERT, UPDATE, DELETE ON aiops.claims, aiops.vector_spaces TO {role};
GRANT UPDATE ON aiops.claim_tokens TO {role};
GRANT INSERT, UPDATE ON aiops.watermarks, aiops.marks, aiops.word_counts TO {role};
GRANT INSERT, DELETE ON aiops.symptom_words, aiops.vectors TO {role};
