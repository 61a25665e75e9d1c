-- One row per (bucket, label, model, cause, outcome): counts and USD. Parameters: $width (an interval), those of {filter}.
WITH picked AS (
  SELECT
    time_bucket(CAST($width AS INTERVAL), d.decided_at) AS bucket, d.top_label AS label,
    coalesce(d.model_used, d.model_chosen) AS model_used, d.cause, d.outcome, d.usage_grade, d.classify_ms,
    {usage_known} AS usage_known, {cost} AS cost
  FROM decisions d
  LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE)
  WHERE {filter}
)
SELECT
  bucket, label, model_used, cause, outcome,
  count(*) AS n,
  sum(cost) AS cost_usd,
  count(cost) AS n_costed,
  count(*) FILTER (WHERE NOT usage_known) AS n_unmeasured,
  count(*) FILTER (WHERE usage_grade = 'assumed' AND cost IS NOT NULL) AS n_assumed
FROM picked
GROUP BY ALL
ORDER BY bucket
