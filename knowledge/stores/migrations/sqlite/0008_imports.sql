-- Who took in what another knowledge base exported: the decisions of it bear other names.
CREATE TABLE imports (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    base TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;

CREATE TRIGGER imports_no_update BEFORE UPDATE ON imports
BEGIN SELECT RAISE(ABORT, 'imports is append-only'); END;
CREATE TRIGGER imports_no_delete BEFORE DELETE ON imports
BEGIN SELECT RAISE(ABORT, 'imports is append-only'); END;
CREATE TRIGGER imports_no_replace BEFORE INSERT ON imports
WHEN EXISTS (SELECT 1 FROM imports WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'imports is append-only'); END;
