-- The decision log, version 1. No primary key and no index: exactly-once comes from the offsets in `ingest`,
-- and index replay after a crash is where DuckDB files break in the field. Times are UTC without a zone.
CREATE TABLE meta(key VARCHAR, value VARCHAR);

-- One row per routing decision. Insert order is time order, so that zone maps prune.
CREATE TABLE decisions(
  id UUID,                          -- UUIDv7, made by the router
  decided_at TIMESTAMP,             -- UTC
  prompt VARCHAR USING COMPRESSION zstd,  -- NULL: not stored; a third of the bytes of DuckDB's own choice on real prompts
  prompt_sha256 VARCHAR,            -- of the whole prompt, also when the stored one was cut
  prompt_chars INTEGER,             -- length of the whole prompt
  session_id VARCHAR,
  top_label VARCHAR,                -- NULL: the classifier failed
  runner_up VARCHAR,                -- NULL: one label, or the classifier failed
  confidence DOUBLE,                -- score of top_label, [0, 1]; NULL: the classifier failed
  margin DOUBLE,                    -- confidence minus the runner-up's score
  scores MAP(VARCHAR, DOUBLE),      -- every label's score as replied; NULL: none
  threshold DOUBLE,                 -- in force for top_label when decided
  cause VARCHAR,                    -- why the rule chose model_chosen
  is_fallback BOOLEAN,              -- low_confidence or low_margin
  model_chosen VARCHAR,
  model_used VARCHAR,               -- who answered; differs after a failover
  classifier VARCHAR,
  calibrated BOOLEAN,
  input_tokens INTEGER,             -- uncached; NULL: not known
  cache_read_tokens INTEGER,
  cache_write_tokens INTEGER,
  output_tokens INTEGER,            -- with reasoning_tokens
  reasoning_tokens INTEGER,
  usage_grade VARCHAR,              -- measured (by the provider) | estimated | assumed; NULL: no counts
  cost_usd DECIMAL(18, 12),         -- as known when logged; NULL: price or usage unknown
  classifier_cost_usd DECIMAL(18, 12),
  price_version VARCHAR,
  classify_ms DOUBLE,
  first_token_ms DOUBLE,
  total_ms DOUBLE,                  -- of the model call
  finish_reason VARCHAR,            -- the provider's own word
  outcome VARCHAR,                  -- how the call ended; NULL: no call was made through the router
  error_type VARCHAR,
  attempts INTEGER,
  policy_fingerprint VARCHAR,
  labels_fingerprint VARCHAR,
  propensity DOUBLE,                -- probability of this choice under exploration; NULL: none
  source VARCHAR,                   -- router | cli | demo | playground | ...
  extra JSON
);

-- One row per policy seen, by fingerprint.
CREATE TABLE policies(fingerprint VARCHAR, labels_fingerprint VARCHAR, name VARCHAR, toml VARCHAR, first_seen TIMESTAMP);

-- One row per report of decisions that could not be written to a spool; the report came once writing worked again.
CREATE TABLE drops(spool VARCHAR, reason VARCHAR, n BIGINT, dropped_at TIMESTAMP);

-- How far each spool has been read, in bytes: the newest row of a spool counts.
CREATE TABLE ingest(spool VARCHAR, upto BIGINT, ingested_at TIMESTAMP);

-- Lines that could not be read, with their byte position and why. Never their text.
CREATE TABLE rejects(spool VARCHAR, pos BIGINT, bytes BIGINT, reason VARCHAR, ingested_at TIMESTAMP);

-- Largest k in 0..10000 with k / 10000 <= c in doubles: the bin of the one rule (router.policy.confidence_bin).
CREATE MACRO confidence_bin(c) AS (
  CASE
    WHEN floor(c * 1e4) < 1e4 AND (floor(c * 1e4) + 1) / 1e4 <= c THEN CAST(floor(c * 1e4) + 1 AS INTEGER)
    WHEN floor(c * 1e4) > 0 AND floor(c * 1e4) / 1e4 > c THEN CAST(floor(c * 1e4) - 1 AS INTEGER)
    ELSE CAST(floor(c * 1e4) AS INTEGER)
  END
);

-- The same for margins in hundredths, 0..100 (router.analysis.rule.bins with grid 100).
CREATE MACRO margin_bin(m) AS (
  CASE
    WHEN floor(m * 1e2) < 1e2 AND (floor(m * 1e2) + 1) / 1e2 <= m THEN CAST(floor(m * 1e2) + 1 AS INTEGER)
    WHEN floor(m * 1e2) > 0 AND floor(m * 1e2) / 1e2 > m THEN CAST(floor(m * 1e2) - 1 AS INTEGER)
    ELSE CAST(floor(m * 1e2) AS INTEGER)
  END
);
