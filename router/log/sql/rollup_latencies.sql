-- One row per key of `latencies`: what its rows add to it. {period} is the day.
-- Parameters: those of {filter}. {rows}: decisions, or the rows of one batch.
SELECT
  {period} AS day, d.policy_fingerprint, d.top_label AS label, coalesce(d.model_used, d.model_chosen) AS model, d.cause,
  d.source, ms_bin(d.classify_ms) AS ms_bin,
  count(*) AS n
FROM {rows} d
WHERE d.classify_ms IS NOT NULL AND {filter}
GROUP BY ALL
