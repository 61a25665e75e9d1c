-- One row per key of `hourly`: what its rows add to it. {period} is the hour, or less where a page draws shorter steps.
-- Parameters: those of {filter}. {rows}: decisions, or the rows of one batch.
WITH picked AS (
  SELECT
    {period} AS hour, d.policy_fingerprint, d.top_label AS label, coalesce(d.model_used, d.model_chosen) AS model,
    d.model_used IS NOT NULL AS answered, d.cause, d.outcome, d.source, d.usage_grade, d.decided_at, d.is_fallback,
    d.attempts, d.failed_cost_usd, d.cost_usd,
    CASE WHEN d.attempts > 1 THEN d.attempts - 1 - n_failed_known(d.failed_attempts) ELSE 0 END AS failed_unknown,
    d.confidence, d.classifier_cost_usd, {usage_known} AS usage_known,
    rate_tier(d.service_tier) AS service_tier,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_write_1h_tokens, 0) ELSE 0 END AS DOUBLE) AS l,
    CAST(CASE WHEN {usage_known} THEN d.input_tokens ELSE 0 END AS DOUBLE) AS i,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_read_tokens, 0) ELSE 0 END AS DOUBLE) AS r,
    CAST(CASE WHEN {usage_known} THEN coalesce(d.cache_write_tokens, 0) ELSE 0 END AS DOUBLE) AS w,
    CAST(CASE WHEN {usage_known} THEN d.output_tokens ELSE 0 END AS DOUBLE) AS o
  FROM {rows} d
  WHERE {filter}
)
SELECT
  hour, policy_fingerprint, label, model, answered, cause, outcome, source, usage_grade, usage_known,
  {price_band} AS price_band, service_tier, l > 0 AS long_writes, cost_usd IS NOT NULL AS costed,
  count(*) AS n,
  count(confidence) AS n_scored,
  count(*) FILTER (WHERE is_fallback) AS n_fallback,
  count(*) FILTER (WHERE attempts > 1) AS n_retried,
  min(decided_at) AS first_at,
  max(decided_at) AS last_at,
  coalesce(sum(classifier_cost_usd), 0) AS classifier_cost,
  count(*) FILTER (WHERE confidence IS NOT NULL AND classifier_cost_usd IS NULL) AS n_classifier_unknown,
  coalesce(sum(cost_usd), 0) AS logged_cost,
  coalesce(sum(failed_cost_usd), 0) AS failed_cost,
  count(*) FILTER (WHERE failed_unknown > 0) AS n_failed_unknown,
  CAST(sum(i) AS BIGINT) AS input_tokens, CAST(sum(r) AS BIGINT) AS cache_read_tokens,
  CAST(sum(w) AS BIGINT) AS cache_write_tokens, CAST(sum(o) AS BIGINT) AS output_tokens,
  CAST(sum(l) AS BIGINT) AS cache_write_1h_tokens,
  sum(i * i) AS input_input, sum(i * r) AS input_read, sum(i * w) AS input_write, sum(i * o) AS input_output,
  sum(r * r) AS read_read, sum(r * w) AS read_write, sum(r * o) AS read_output,
  sum(w * w) AS write_write, sum(w * o) AS write_output, sum(o * o) AS output_output,
  sum(i * l) AS input_long, sum(r * l) AS read_long, sum(w * l) AS write_long, sum(o * l) AS output_long, sum(l * l) AS long_long
FROM picked
GROUP BY hour, policy_fingerprint, label, model, answered, cause, outcome, source, usage_grade, usage_known, price_band, service_tier, long_writes, costed
