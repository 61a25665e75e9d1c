-- One row: the counts of a period. Costs in USD at the price book's rates for each decision's day.
WITH picked AS (
  SELECT d.*, {cost} AS cost
  FROM decisions d
  LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE)
  WHERE {filter}
)
SELECT
  count(*) AS n,
  count(*) FILTER (WHERE confidence IS NOT NULL) AS n_scored,
  count(*) FILTER (WHERE is_fallback) AS n_fallback,
  count(*) FILTER (WHERE cause IN ('classifier_error', 'classifier_timeout')) AS n_classifier_failed,
  count(*) FILTER (WHERE outcome IS NOT NULL AND outcome NOT IN ('ok', 'length', 'tool_call', 'refusal', 'content_filter')) AS n_failed,
  count(cost) AS n_costed,
  count(*) FILTER (WHERE usage_grade = 'assumed' AND cost IS NOT NULL) AS n_assumed,
  count(*) FILTER (WHERE NOT {usage_known}) AS n_unmeasured,
  count(*) FILTER (WHERE {usage_known} AND cost IS NULL) AS n_unpriced,
  sum(cost) AS cost_usd,
  sum(classifier_cost_usd) AS classifier_cost_usd,
  quantile_cont(classify_ms, 0.5) AS classify_p50_ms,
  quantile_cont(classify_ms, 0.95) AS classify_p95_ms,
  min(decided_at) AS first_at,
  max(decided_at) AS last_at
FROM picked d
