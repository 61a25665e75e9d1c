-- Version 3: requests that failed before the one that ended a call, to the same model or to another of a failover chain.

-- JSON list of {model, outcome, error_type, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
-- reasoning_tokens, cost_usd (text, every digit), total_ms}, in the order they were made; NULL: there were none, or the
-- row is older than this column.
ALTER TABLE decisions ADD COLUMN failed_attempts JSON;

-- What they cost together as known when logged; NULL: none was charged, or the cost of none is known.
ALTER TABLE decisions ADD COLUMN failed_cost_usd DECIMAL(18, 12);

ALTER TABLE hourly ADD COLUMN failed_cost DECIMAL(38, 12);    -- of those that are known
ALTER TABLE hourly ADD COLUMN n_failed_unknown BIGINT;        -- decisions with a failed request whose cost is not known

-- Failed requests of one decision whose cost is known.
CREATE MACRO n_failed_known(attempts) AS (coalesce(list_count(json_extract_string(attempts, '$[*].cost_usd')), 0));
