-- One row per day (UTC), label and confidence in hundredths (router.analysis.tables.DAILY). Parameters: those of {filter}.
SELECT
  CAST(d.decided_at AS DATE) AS day, d.top_label AS label, margin_bin(d.confidence) AS bin,
  count(*) AS n, count(*) FILTER (WHERE d.is_fallback) AS n_fallback
FROM decisions d
WHERE d.confidence IS NOT NULL AND d.top_label IS NOT NULL AND d.decided_at IS NOT NULL AND {filter}
GROUP BY ALL
ORDER BY day, label, bin
