-- What was decided, and what was judged, from some time on: acts of a report's days, and how often
-- entries were of use lately.
CREATE INDEX IF NOT EXISTS decisions_by_at ON decisions (at);
CREATE INDEX IF NOT EXISTS judgements_by_at ON judgements (at);
