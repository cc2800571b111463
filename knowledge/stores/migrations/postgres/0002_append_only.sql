-- What is written stays written. The rest may change: claims, claim_tokens, watermarks, marks, and
-- what the searches need. ENABLE ALWAYS: a replica's session_replication_role lifts nothing.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

DO $$
DECLARE
    guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY[
        'base', 'instances', 'entries', 'retirements', 'symptoms', 'incidents', 'judgements',
        'remarks', 'snoozes', 'decisions', 'voided', 'outcomes', 'harms', 'vouches', 'grants',
        'revocations', 'pauses', 'holds', 'hold_ends', 'imports', 'audit'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I '
            'FOR EACH ROW EXECUTE FUNCTION refuse_change()', guarded);
        EXECUTE format(
            'CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', guarded);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only', guarded);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER never_truncated', guarded);
    END LOOP;
END
$$;

-- Each row of the audit log follows the one before.
CREATE FUNCTION follow_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last aiops.audit;
BEGIN
    SELECT * INTO last FROM aiops.audit ORDER BY seq DESC LIMIT 1;
    IF NEW.seq <> coalesce(last.seq, 0) + 1 OR NEW.prev <> coalesce(last.hash, '') THEN
        RAISE EXCEPTION 'audit is append-only: a row follows the last one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_follows BEFORE INSERT ON audit
FOR EACH ROW EXECUTE FUNCTION follow_audit();
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_follows;
