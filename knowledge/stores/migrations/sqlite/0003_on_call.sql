-- What a person does on call: holds, remarks, snoozes, the word that an act did harm; and groups.
--
-- All of it is append-only, in the manner of 0002, but for marks.

-- What an incident was grouped by; '' where it shares nothing.
ALTER TABLE incidents ADD COLUMN group_key TEXT NOT NULL DEFAULT '';
CREATE INDEX incidents_by_group ON incidents (group_id, failed_at, seq)
    WHERE group_id IS NOT NULL;
CREATE INDEX incidents_by_group_key ON incidents (instance, group_key, failed_at, seq)
    WHERE group_key <> '';

-- One row a member, so that an index serves whoever looks for an id.
CREATE VIEW grouped AS SELECT group_id AS id FROM incidents WHERE group_id IS NOT NULL;

CREATE TABLE remarks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    by TEXT NOT NULL,
    at TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX remarks_by_incident ON remarks (incident_id, seq);

-- The newest row of an incident holds.
CREATE TABLE snoozes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    until TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
CREATE INDEX snoozes_by_incident ON snoozes (incident_id, seq);

CREATE TABLE harms (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    decision INTEGER NOT NULL REFERENCES decisions (seq),
    by TEXT NOT NULL,
    at TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX harms_by_incident ON harms (incident_id, seq);
CREATE INDEX harms_by_decision ON harms (decision);

-- `target` is a DAG glob or the full id of an incident.
CREATE TABLE holds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    id TEXT NOT NULL UNIQUE,
    instance TEXT NOT NULL,
    target TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL,
    until TEXT,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE hold_ends (
    hold_id TEXT PRIMARY KEY REFERENCES holds (id),
    by TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;

CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TRIGGER remarks_no_update BEFORE UPDATE ON remarks
BEGIN SELECT RAISE(ABORT, 'remarks is append-only'); END;
CREATE TRIGGER remarks_no_delete BEFORE DELETE ON remarks
BEGIN SELECT RAISE(ABORT, 'remarks is append-only'); END;
CREATE TRIGGER remarks_no_replace BEFORE INSERT ON remarks
WHEN EXISTS (SELECT 1 FROM remarks WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'remarks is append-only'); END;

CREATE TRIGGER snoozes_no_update BEFORE UPDATE ON snoozes
BEGIN SELECT RAISE(ABORT, 'snoozes is append-only'); END;
CREATE TRIGGER snoozes_no_delete BEFORE DELETE ON snoozes
BEGIN SELECT RAISE(ABORT, 'snoozes is append-only'); END;
CREATE TRIGGER snoozes_no_replace BEFORE INSERT ON snoozes
WHEN EXISTS (SELECT 1 FROM snoozes WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'snoozes is append-only'); END;

CREATE TRIGGER harms_no_update BEFORE UPDATE ON harms
BEGIN SELECT RAISE(ABORT, 'harms is append-only'); END;
CREATE TRIGGER harms_no_delete BEFORE DELETE ON harms
BEGIN SELECT RAISE(ABORT, 'harms is append-only'); END;
CREATE TRIGGER harms_no_replace BEFORE INSERT ON harms
WHEN EXISTS (SELECT 1 FROM harms WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'harms is append-only'); END;

CREATE TRIGGER holds_no_update BEFORE UPDATE ON holds
BEGIN SELECT RAISE(ABORT, 'holds is append-only'); END;
CREATE TRIGGER holds_no_delete BEFORE DELETE ON holds
BEGIN SELECT RAISE(ABORT, 'holds is append-only'); END;
CREATE TRIGGER holds_no_replace BEFORE INSERT ON holds
WHEN EXISTS (SELECT 1 FROM holds WHERE seq = NEW.seq OR id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'holds is append-only'); END;

CREATE TRIGGER hold_ends_no_update BEFORE UPDATE ON hold_ends
BEGIN SELECT RAISE(ABORT, 'hold_ends is append-only'); END;
CREATE TRIGGER hold_ends_no_delete BEFORE DELETE ON hold_ends
BEGIN SELECT RAISE(ABORT, 'hold_ends is append-only'); END;
CREATE TRIGGER hold_ends_no_replace BEFORE INSERT ON hold_ends
WHEN EXISTS (SELECT 1 FROM hold_ends WHERE hold_id = NEW.hold_id)
BEGIN SELECT RAISE(ABORT, 'hold_ends is append-only'); END;
