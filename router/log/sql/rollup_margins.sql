-- One row per key of `margins`: what its rows add to it. {period} as in rollup_cells.sql.
-- Parameters: those of {filter}. {rows}: decisions, or the rows of one batch.
WITH picked AS (
  SELECT
    {period} AS month, d.policy_fingerprint, d.top_label AS label, d.runner_up, margin_bin(least(greatest(d.margin, 0), 1)) AS margin_bin,
    coalesce(d.model_used, d.model_chosen) AS model, d.cause, d.source,
    {usage_known} AS usage_known,
    rate_tier(d.service_tier) AS service_tier,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_write_1h_tokens, 0) ELSE 0 END AS DOUBLE) AS l,
    CAST(CASE WHEN {usage_known} THEN d.input_tokens ELSE 0 END AS DOUBLE) AS i,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_read_tokens, 0) ELSE 0 END AS DOUBLE) AS r,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_write_tokens, 0) ELSE 0 END AS DOUBLE) AS w,
    CAST(CASE WHEN {usage_known} THEN d.output_tokens ELSE 0 END AS DOUBLE) AS o
  FROM {rows} d
  WHERE d.margin IS NOT NULL AND {filter}
)
SELECT
  month, policy_fingerprint, label, runner_up, margin_bin, model, cause, source, usage_known,
  {price_band} AS price_band, service_tier, l > 0 AS long_writes,
  count(*) AS n,
  CAST(sum(i) AS BIGINT) AS input_tokens, CAST(sum(r) AS BIGINT) AS cache_read_tokens,
  CAST(sum(w) AS BIGINT) AS cache_write_tokens, CAST(sum(o) AS BIGINT) AS output_tokens,
  CAST(sum(l) AS BIGINT) AS cache_write_1h_tokens
FROM picked
GROUP BY month, policy_fingerprint, label, runner_up, margin_bin, model, cause, source, usage_known, price_band, service_tier, long_writes
