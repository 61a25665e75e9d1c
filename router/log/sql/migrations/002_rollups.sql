-- Version 2: roll-ups that pages read whatever the number of rows, and what people add to the log.
-- Roll-ups hold sums that add up. Ingest appends deltas in the transaction of their rows, marked `is_delta`; a checkpoint
-- merges them. Reading sums over all rows of a key, so it never matters which have been merged. They hold tokens, not
-- money: prices are joined when they are read.

-- Lower ends of the price tiers that models have: a decision's input tokens (cached ones included) are above `price_band`,
-- and not above the next step. A tier that starts at a step is told by `price_band >= tier_from`.
CREATE MACRO price_band(t) AS (
  CASE WHEN t > 524288 THEN 524288 WHEN t > 512000 THEN 512000 WHEN t > 272000 THEN 272000 WHEN t > 256000 THEN 256000
    WHEN t > 200000 THEN 200000 WHEN t > 199999 THEN 199999 WHEN t > 128000 THEN 128000 WHEN t > 100000 THEN 100000
    WHEN t > 32000 THEN 32000 ELSE 0 END
);

-- Bin k holds times in (1.02^(k-1), 1.02^k] ms: the bin's middle is within 1 % of each (DDSketch, Masson et al. 2019).
CREATE MACRO ms_bin(t) AS (CAST(ceil(ln(least(greatest(t, 1e-3), 1e12)) / ln(1.02)) AS SMALLINT));

-- One row per hour and what a page filters or groups by.
CREATE TABLE hourly(
  hour TIMESTAMP,
  policy_fingerprint VARCHAR,
  label VARCHAR,                    -- top_label
  model VARCHAR,                    -- model_used, else model_chosen
  answered BOOLEAN,                 -- model_used is known
  cause VARCHAR,
  outcome VARCHAR,
  source VARCHAR,
  usage_grade VARCHAR,
  usage_known BOOLEAN,              -- tokens that can be priced: input and output known, and not all zero
  price_band INTEGER,
  n BIGINT,
  n_scored BIGINT,                  -- with a confidence
  n_fallback BIGINT,
  n_retried BIGINT,                 -- more than one attempt
  first_at TIMESTAMP,
  last_at TIMESTAMP,
  classifier_cost DECIMAL(38, 12),  -- of those that are known
  n_classifier_unknown BIGINT,      -- scored, by a classifier that names no price
  input_tokens BIGINT,              -- token sums are over usage_known
  cache_read_tokens BIGINT,
  cache_write_tokens BIGINT,
  output_tokens BIGINT,
  -- Sums of products of two token counts of one decision: what the squares of costs are made of, whatever the prices.
  input_input DOUBLE, input_read DOUBLE, input_write DOUBLE, input_output DOUBLE, read_read DOUBLE, read_write DOUBLE,
  read_output DOUBLE, write_write DOUBLE, write_output DOUBLE, output_output DOUBLE,
  is_delta BOOLEAN
);

-- One row per month and confidence bin (and what a page filters by), decisions with scores: the threshold's curve.
CREATE TABLE cells(
  month DATE,                       -- its first day
  policy_fingerprint VARCHAR,
  label VARCHAR,
  bin SMALLINT,                     -- confidence_bin
  model VARCHAR,
  cause VARCHAR,
  source VARCHAR,
  usage_grade VARCHAR,
  usage_known BOOLEAN,
  price_band INTEGER,
  n BIGINT,
  classifier_cost DECIMAL(38, 12),
  n_classifier_unknown BIGINT,
  input_tokens BIGINT,
  cache_read_tokens BIGINT,
  cache_write_tokens BIGINT,
  output_tokens BIGINT,
  -- Sums of products of two token counts of one decision: what the squares of costs are made of, whatever the prices.
  input_input DOUBLE, input_read DOUBLE, input_write DOUBLE, input_output DOUBLE, read_read DOUBLE, read_write DOUBLE,
  read_output DOUBLE, write_write DOUBLE, write_output DOUBLE, output_output DOUBLE,
  is_delta BOOLEAN
);

-- One row per month, pair of best labels and margin in hundredths (and what a page filters by).
CREATE TABLE margins(
  month DATE,
  policy_fingerprint VARCHAR,
  label VARCHAR,
  runner_up VARCHAR,
  margin_bin SMALLINT,
  model VARCHAR,
  cause VARCHAR,
  source VARCHAR,
  usage_known BOOLEAN,
  price_band INTEGER,
  n BIGINT,
  input_tokens BIGINT,
  cache_read_tokens BIGINT,
  cache_write_tokens BIGINT,
  output_tokens BIGINT,
  is_delta BOOLEAN
);

-- One row per day and bin of the classifier's time (and what a page filters by).
CREATE TABLE latencies(
  day DATE,
  policy_fingerprint VARCHAR,
  label VARCHAR,
  model VARCHAR,
  cause VARCHAR,
  source VARCHAR,
  ms_bin SMALLINT,
  n BIGINT,
  is_delta BOOLEAN
);

-- What a person says about a decision. Several rows of one decision are several judgements.
CREATE TABLE feedback(
  decision_id UUID,
  queue VARCHAR,                    -- why it was reviewed; NULL: nobody asked
  inclusion_probability DOUBLE,     -- with which it was drawn; NULL: not drawn
  verdict VARCHAR,                  -- right | wrong | unsure
  correct_label VARCHAR,
  note VARCHAR,
  judged_by VARCHAR,
  judged_at TIMESTAMP
);

-- Named views of a page: the newest row of a name counts; a NULL query takes it away.
CREATE TABLE saved_views(name VARCHAR, page VARCHAR, query VARCHAR, saved_at TIMESTAMP);

-- What was erased and how many rows; never what they held, nor by which value they were found.
CREATE TABLE erasures(selector VARCHAR, n BIGINT, erased_at TIMESTAMP);
