-- Vectors of a second embedder can be made while the first one's are in use (`aiops kb reindex`).
--
-- The vectors of a space lie in a table of its own, vec_<id>. `done` is the number of the last
-- symptom whose vector was made, while the space is being built. Rows change and go.

CREATE TABLE vector_spaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    embedder TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    signature_version INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'building')),
    done INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX vector_spaces_by_state ON vector_spaces (state);

-- Until now there was one, and its table was named by its dimensions.
INSERT INTO vector_spaces (id, embedder, dimensions, signature_version, state)
SELECT dimensions, embedder, dimensions, signature_version, 'active' FROM vector_space;
DROP TABLE vector_space;
