-- One row per (bucket, label, model, cause, outcome): counts and USD. {source}: rows of `hourly`. Joined: rates.
-- Parameters: $width (an interval).
WITH priced AS (
  SELECT
    time_bucket(CAST($width AS INTERVAL), s.hour) AS bucket, s.label, s.model AS model_used, s.cause, s.outcome, s.n,
    s.usage_known, s.usage_grade, {cost} AS cost
  FROM ({source}) s
  LEFT JOIN rates r ON s.answered AND r.model = s.model AND r.day = CAST(s.hour AS DATE)
)
SELECT
  bucket, label, model_used, cause, outcome,
  CAST(sum(n) AS BIGINT) AS n,
  sum(cost) AS cost_usd,
  CAST(coalesce(sum(n) FILTER (WHERE cost IS NOT NULL), 0) AS BIGINT) AS n_costed,
  CAST(coalesce(sum(n) FILTER (WHERE NOT usage_known), 0) AS BIGINT) AS n_unmeasured,
  CAST(coalesce(sum(n) FILTER (WHERE usage_grade = 'assumed' AND cost IS NOT NULL), 0) AS BIGINT) AS n_assumed
FROM priced
GROUP BY bucket, label, model_used, cause, outcome
ORDER BY bucket
