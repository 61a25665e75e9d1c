-- One row per bucket: how long the classifier took, in ms. Parameters: $width (an interval), those of {filter}.
SELECT
  time_bucket(CAST($width AS INTERVAL), d.decided_at) AS bucket,
  count(d.classify_ms) AS n,
  quantile_cont(d.classify_ms, 0.5) AS p50_ms,
  quantile_cont(d.classify_ms, 0.95) AS p95_ms
FROM decisions d
WHERE {filter}
GROUP BY bucket
ORDER BY bucket
