-- The circuit breakers ask before every act what has not ended well lately.
CREATE INDEX outcomes_not_well ON outcomes (at)
    WHERE outcome IN ('failed', 'relapsed', 'unknown');
