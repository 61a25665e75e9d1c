-- Version 4: what sets a call's rates besides its model and day, so that costs that are read again are right too.

-- The service tier whose rates hold; '' for the list price, which has several names (router.types.PLAIN_TIERS).
CREATE MACRO rate_tier(tier) AS (
  CASE WHEN tier IS NULL OR tier IN ('default', 'standard', 'auto', 'on_demand') THEN '' ELSE tier END
);

-- Writes that live for an hour, as rows of version 3 have them; NULL: none told, or no count.
CREATE MACRO writes_1h_in(extra) AS (
  CASE WHEN TRY_CAST(json_extract_string(extra, '$.cache_write_1h_tokens') AS INTEGER) >= 0
  THEN TRY_CAST(json_extract_string(extra, '$.cache_write_1h_tokens') AS INTEGER) END
);

ALTER TABLE decisions ADD COLUMN cache_write_1h_tokens INTEGER;  -- of cache_write_tokens; NULL: none told
ALTER TABLE decisions ADD COLUMN service_tier VARCHAR;           -- the provider's word; NULL: none told

-- Version 3 kept the first of them in `extra`, where it stays.
UPDATE decisions SET cache_write_1h_tokens = writes_1h_in(extra) WHERE writes_1h_in(extra) IS NOT NULL;

-- Keys of the roll-ups. service_tier is '' where list prices hold (rate_tier); long_writes: whether the row has writes that
-- live for an hour, whose rate can be unknown where those of all other tokens are known.
ALTER TABLE hourly ADD COLUMN service_tier VARCHAR;
ALTER TABLE hourly ADD COLUMN long_writes BOOLEAN;
ALTER TABLE cells ADD COLUMN service_tier VARCHAR;
ALTER TABLE cells ADD COLUMN long_writes BOOLEAN;
ALTER TABLE margins ADD COLUMN service_tier VARCHAR;
ALTER TABLE margins ADD COLUMN long_writes BOOLEAN;
ALTER TABLE hourly ADD COLUMN costed BOOLEAN;  -- cost_usd is known, so that logged_cost and today's prices are of the same calls

-- Sums. Writes that live for an hour are counted in cache_write_tokens too: what they cost more than the others is added.
ALTER TABLE hourly ADD COLUMN cache_write_1h_tokens BIGINT;
ALTER TABLE hourly ADD COLUMN logged_cost DECIMAL(38, 12);   -- of cost_usd: at the prices known when the calls were made
ALTER TABLE hourly ADD COLUMN input_long DOUBLE;
ALTER TABLE hourly ADD COLUMN read_long DOUBLE;
ALTER TABLE hourly ADD COLUMN write_long DOUBLE;
ALTER TABLE hourly ADD COLUMN output_long DOUBLE;
ALTER TABLE hourly ADD COLUMN long_long DOUBLE;
ALTER TABLE cells ADD COLUMN cache_write_1h_tokens BIGINT;
ALTER TABLE cells ADD COLUMN input_long DOUBLE;
ALTER TABLE cells ADD COLUMN read_long DOUBLE;
ALTER TABLE cells ADD COLUMN write_long DOUBLE;
ALTER TABLE cells ADD COLUMN output_long DOUBLE;
ALTER TABLE cells ADD COLUMN long_long DOUBLE;
ALTER TABLE margins ADD COLUMN cache_write_1h_tokens BIGINT;
