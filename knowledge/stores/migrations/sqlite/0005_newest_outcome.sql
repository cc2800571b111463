-- The newest outcome of a decision is read from the index alone: thousands are asked for at once.
CREATE INDEX outcomes_of_decision ON outcomes (decision, seq, outcome);
DROP INDEX outcomes_by_decision;
