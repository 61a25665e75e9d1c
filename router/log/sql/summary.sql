-- One row: the counts of a period. Costs in USD at the price book's rates for each decision's day.
-- {source}: rows of `hourly`. Joined: rates.
WITH summed AS (  -- before anything is joined: prices are by day
  SELECT
    CAST(hour AS DATE) AS day, model, answered, cause, outcome, usage_known, usage_grade, price_band,
    sum(n) AS n, sum(n_scored) AS n_scored, sum(n_fallback) AS n_fallback, sum(classifier_cost) AS classifier_cost,
    sum(n_classifier_unknown) AS n_classifier_unknown, min(first_at) AS first_at, max(last_at) AS last_at,
    sum(input_tokens) AS input_tokens, sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_tokens) AS cache_write_tokens, sum(output_tokens) AS output_tokens
  FROM ({source})
  GROUP BY day, model, answered, cause, outcome, usage_known, usage_grade, price_band
  HAVING sum(n) > 0  -- keys whose rows were all taken away again
), rated AS (
  SELECT s.*, {rates}
  FROM summed s
  LEFT JOIN rates r ON s.answered AND r.model = s.model AND r.day = s.day
), priced AS (
  SELECT *, {cost} AS cost FROM rated s
)
SELECT
  CAST(coalesce(sum(n), 0) AS BIGINT) AS n,
  CAST(coalesce(sum(n_scored), 0) AS BIGINT) AS n_scored,
  CAST(coalesce(sum(n_fallback), 0) AS BIGINT) AS n_fallback,
  CAST(coalesce(sum(n) FILTER (WHERE cause IN ('classifier_error', 'classifier_timeout')), 0) AS BIGINT) AS n_classifier_failed,
  CAST(coalesce(sum(n) FILTER (WHERE outcome IS NOT NULL AND NOT list_contains($replies, outcome)), 0) AS BIGINT) AS n_failed,
  CAST(coalesce(sum(n) FILTER (WHERE cost IS NOT NULL), 0) AS BIGINT) AS n_costed,
  CAST(coalesce(sum(n) FILTER (WHERE usage_grade = 'assumed' AND cost IS NOT NULL), 0) AS BIGINT) AS n_assumed,
  CAST(coalesce(sum(n) FILTER (WHERE NOT usage_known), 0) AS BIGINT) AS n_unmeasured,
  CAST(coalesce(sum(n) FILTER (WHERE usage_known AND cost IS NULL), 0) AS BIGINT) AS n_unpriced,
  sum(cost) AS cost_usd,
  CAST(sum(classifier_cost) FILTER (WHERE n > n_classifier_unknown) AS DECIMAL(38, 12)) AS classifier_cost_usd,
  min(first_at) AS first_at,
  max(last_at) AS last_at
FROM priced
