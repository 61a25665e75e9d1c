-- One row per (bucket, label, model, cause, outcome): counts and USD. {source}: rows of `hourly`. Joined: rates.
-- Parameters: $width (an interval).
WITH summed AS (  -- before anything is joined: prices are by day
  SELECT
    time_bucket(CAST($width AS INTERVAL), hour) AS bucket, CAST(hour AS DATE) AS day, label, model, answered, cause, outcome,
    usage_known, usage_grade, price_band, sum(n) AS n, sum(input_tokens) AS input_tokens,
    sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
    sum(output_tokens) AS output_tokens
  FROM ({source})
  GROUP BY bucket, day, label, model, answered, cause, outcome, usage_known, usage_grade, price_band
  HAVING sum(n) > 0  -- keys whose rows were all taken away again
), rated AS (
  SELECT s.*, {rates}
  FROM summed s
  LEFT JOIN rates r ON s.answered AND r.model = s.model AND r.day = s.day
), priced AS (
  SELECT bucket, label, model AS model_used, cause, outcome, n, usage_known, usage_grade, {cost} AS cost FROM rated s
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
