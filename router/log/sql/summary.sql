-- One row: the counts of a period. Costs in USD at the price book's rates for each decision's day.
-- {source}: rows of `hourly`. Joined: rates.
WITH priced AS (
  SELECT s.*, {cost} AS cost
  FROM ({source}) s
  LEFT JOIN rates r ON s.answered AND r.model = s.model AND r.day = CAST(s.hour AS DATE)
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
