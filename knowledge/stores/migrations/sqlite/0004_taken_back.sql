-- A decision that its maker took back is void as well, and what was vouched with it counts no more.

-- Who took it back; NULL where a claim was given back instead.
ALTER TABLE voided ADD COLUMN by TEXT;
