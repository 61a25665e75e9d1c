-- One row per key of `cells`: what its rows add to it. {period} is the month's first day, or the day at a range's ends.
-- Parameters: those of {filter}. {rows}: decisions, or the rows of one batch.
WITH picked AS (
  SELECT
    {period} AS month, d.policy_fingerprint, d.top_label AS label, confidence_bin(least(greatest(d.confidence, 0), 1)) AS bin,
    coalesce(d.model_used, d.model_chosen) AS model, d.cause, d.source, d.usage_grade,
    d.confidence, d.classifier_cost_usd, {usage_known} AS usage_known,
    rate_tier(d.service_tier) AS service_tier,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_write_1h_tokens, 0) ELSE 0 END AS DOUBLE) AS l,
    CAST(CASE WHEN {usage_known} THEN d.input_tokens ELSE 0 END AS DOUBLE) AS i,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_read_tokens, 0) ELSE 0 END AS DOUBLE) AS r,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_write_tokens, 0) ELSE 0 END AS DOUBLE) AS w,
    CAST(CASE WHEN {usage_known} THEN d.output_tokens ELSE 0 END AS DOUBLE) AS o
  FROM {rows} d
  WHERE d.confidence IS NOT NULL AND d.top_label IS NOT NULL AND {filter}
)
SELECT
  month, policy_fingerprint, label, bin, model, cause, source, usage_grade, usage_known,
  {price_band} AS price_band, service_tier, l > 0 AS long_writes,
  count(*) AS n,
  coalesce(sum(classifier_cost_usd), 0) AS classifier_cost,
  count(*) FILTER (WHERE classifier_cost_usd IS NULL) AS n_classifier_unknown,
  CAST(sum(i) AS BIGINT) AS input_tokens, CAST(sum(r) AS BIGINT) AS cache_read_tokens,
  CAST(sum(w) AS BIGINT) AS cache_write_tokens, CAST(sum(o) AS BIGINT) AS output_tokens,
  CAST(sum(l) AS BIGINT) AS cache_write_1h_tokens,
  sum(i * i) AS input_input, sum(i * r) AS input_read, sum(i * w) AS input_write, sum(i * o) AS input_output,
  sum(r * r) AS read_read, sum(r * w) AS read_write, sum(r * o) AS read_output,
  sum(w * w) AS write_write, sum(w * o) AS write_output, sum(o * o) AS output_output,
  sum(i * l) AS input_long, sum(r * l) AS read_long, sum(w * l) AS write_long, sum(o * l) AS output_long, sum(l * l) AS long_long
FROM picked
GROUP BY month, policy_fingerprint, label, bin, model, cause, source, usage_grade, usage_known, price_band, service_tier, long_writes
