-- One row per (label, bin of confidence): decisions that a margin rule lets pass (router.analysis.tables.BINS). Without a second
-- label there is no margin, and the rule holds nothing back. Parameters: $min_margin, those of {filter}.
SELECT
  d.top_label AS label, CAST(confidence_bin(least(greatest(d.confidence, 0), 1)) AS INTEGER) AS bin,
  CAST(count(*) AS BIGINT) AS n
FROM decisions d
WHERE d.confidence IS NOT NULL AND d.top_label IS NOT NULL AND (d.margin IS NULL OR d.margin >= $min_margin) AND {filter}
GROUP BY ALL
ORDER BY label, bin
