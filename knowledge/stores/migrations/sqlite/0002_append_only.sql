-- What is written stays written: no update, no delete, no REPLACE.
--
-- REPLACE deletes the row it collides with without firing delete triggers (recursive_triggers is
-- off by default), hence the guard on insert, for every unique key of the table.
-- The rest may change: claims, claim_tokens, watermarks, vector_space, vectors and words.

CREATE TRIGGER base_no_update BEFORE UPDATE ON base
BEGIN SELECT RAISE(ABORT, 'base is append-only'); END;
CREATE TRIGGER base_no_delete BEFORE DELETE ON base
BEGIN SELECT RAISE(ABORT, 'base is append-only'); END;
CREATE TRIGGER base_no_replace BEFORE INSERT ON base
WHEN EXISTS (SELECT 1 FROM base WHERE only = NEW.only)
BEGIN SELECT RAISE(ABORT, 'base is append-only'); END;

CREATE TRIGGER instances_no_update BEFORE UPDATE ON instances
BEGIN SELECT RAISE(ABORT, 'instances is append-only'); END;
CREATE TRIGGER instances_no_delete BEFORE DELETE ON instances
BEGIN SELECT RAISE(ABORT, 'instances is append-only'); END;
CREATE TRIGGER instances_no_replace BEFORE INSERT ON instances
WHEN EXISTS (SELECT 1 FROM instances WHERE name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'instances is append-only'); END;

CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END;
CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END;

CREATE TRIGGER retirements_no_update BEFORE UPDATE ON retirements
BEGIN SELECT RAISE(ABORT, 'retirements is append-only'); END;
CREATE TRIGGER retirements_no_delete BEFORE DELETE ON retirements
BEGIN SELECT RAISE(ABORT, 'retirements is append-only'); END;
CREATE TRIGGER retirements_no_replace BEFORE INSERT ON retirements
WHEN EXISTS (SELECT 1 FROM retirements WHERE seq = NEW.seq OR entry = NEW.entry)
BEGIN SELECT RAISE(ABORT, 'retirements is append-only'); END;

CREATE TRIGGER symptoms_no_update BEFORE UPDATE ON symptoms
BEGIN SELECT RAISE(ABORT, 'symptoms is append-only'); END;
CREATE TRIGGER symptoms_no_delete BEFORE DELETE ON symptoms
BEGIN SELECT RAISE(ABORT, 'symptoms is append-only'); END;
CREATE TRIGGER symptoms_no_replace BEFORE INSERT ON symptoms
WHEN EXISTS (SELECT 1 FROM symptoms WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'symptoms is append-only'); END;

CREATE TRIGGER incidents_no_update BEFORE UPDATE ON incidents
BEGIN SELECT RAISE(ABORT, 'incidents is append-only'); END;
CREATE TRIGGER incidents_no_delete BEFORE DELETE ON incidents
BEGIN SELECT RAISE(ABORT, 'incidents is append-only'); END;
CREATE TRIGGER incidents_no_replace BEFORE INSERT ON incidents
WHEN EXISTS (SELECT 1 FROM incidents WHERE seq = NEW.seq OR id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'incidents is append-only'); END;

CREATE TRIGGER judgements_no_update BEFORE UPDATE ON judgements
BEGIN SELECT RAISE(ABORT, 'judgements is append-only'); END;
CREATE TRIGGER judgements_no_delete BEFORE DELETE ON judgements
BEGIN SELECT RAISE(ABORT, 'judgements is append-only'); END;
CREATE TRIGGER judgements_no_replace BEFORE INSERT ON judgements
WHEN EXISTS (SELECT 1 FROM judgements WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'judgements is append-only'); END;

CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER decisions_no_replace BEFORE INSERT ON decisions
WHEN EXISTS (SELECT 1 FROM decisions WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;

CREATE TRIGGER voided_no_update BEFORE UPDATE ON voided
BEGIN SELECT RAISE(ABORT, 'voided is append-only'); END;
CREATE TRIGGER voided_no_delete BEFORE DELETE ON voided
BEGIN SELECT RAISE(ABORT, 'voided is append-only'); END;
CREATE TRIGGER voided_no_replace BEFORE INSERT ON voided
WHEN EXISTS (SELECT 1 FROM voided WHERE decision = NEW.decision)
BEGIN SELECT RAISE(ABORT, 'voided is append-only'); END;

CREATE TRIGGER outcomes_no_update BEFORE UPDATE ON outcomes
BEGIN SELECT RAISE(ABORT, 'outcomes is append-only'); END;
CREATE TRIGGER outcomes_no_delete BEFORE DELETE ON outcomes
BEGIN SELECT RAISE(ABORT, 'outcomes is append-only'); END;
CREATE TRIGGER outcomes_no_replace BEFORE INSERT ON outcomes
WHEN EXISTS (SELECT 1 FROM outcomes WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'outcomes is append-only'); END;

CREATE TRIGGER vouches_no_update BEFORE UPDATE ON vouches
BEGIN SELECT RAISE(ABORT, 'vouches is append-only'); END;
CREATE TRIGGER vouches_no_delete BEFORE DELETE ON vouches
BEGIN SELECT RAISE(ABORT, 'vouches is append-only'); END;
CREATE TRIGGER vouches_no_replace BEFORE INSERT ON vouches
WHEN EXISTS (SELECT 1 FROM vouches WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'vouches is append-only'); END;

CREATE TRIGGER grants_no_update BEFORE UPDATE ON grants
BEGIN SELECT RAISE(ABORT, 'grants is append-only'); END;
CREATE TRIGGER grants_no_delete BEFORE DELETE ON grants
BEGIN SELECT RAISE(ABORT, 'grants is append-only'); END;
CREATE TRIGGER grants_no_replace BEFORE INSERT ON grants
WHEN EXISTS (SELECT 1 FROM grants WHERE seq = NEW.seq OR id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'grants is append-only'); END;

CREATE TRIGGER revocations_no_update BEFORE UPDATE ON revocations
BEGIN SELECT RAISE(ABORT, 'revocations is append-only'); END;
CREATE TRIGGER revocations_no_delete BEFORE DELETE ON revocations
BEGIN SELECT RAISE(ABORT, 'revocations is append-only'); END;
CREATE TRIGGER revocations_no_replace BEFORE INSERT ON revocations
WHEN EXISTS (SELECT 1 FROM revocations WHERE grant_id = NEW.grant_id)
BEGIN SELECT RAISE(ABORT, 'revocations is append-only'); END;

CREATE TRIGGER pauses_no_update BEFORE UPDATE ON pauses
BEGIN SELECT RAISE(ABORT, 'pauses is append-only'); END;
CREATE TRIGGER pauses_no_delete BEFORE DELETE ON pauses
BEGIN SELECT RAISE(ABORT, 'pauses is append-only'); END;
CREATE TRIGGER pauses_no_replace BEFORE INSERT ON pauses
WHEN EXISTS (SELECT 1 FROM pauses WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'pauses is append-only'); END;
