-- One row per (label, bin of confidence): mergeable sums for the sweep (router.analysis.tables.CELLS).
-- USD had the label's, the fallback or the baseline model answered with the same tokens; sums are over priced rows.
-- Joined: routes(label, model), rates. Parameters: $fallback, $baseline models, those of {filter}.
WITH priced AS (
  SELECT
    d.top_label AS label, confidence_bin(d.confidence) AS bin, d.usage_grade,
    {label_cost} AS lc, {fallback_cost} AS fc, {baseline_cost} AS bc,
    CAST(d.classifier_cost_usd AS DOUBLE) AS cc
  FROM decisions d
  JOIN routes ON routes.label = d.top_label
  LEFT JOIN rates l ON l.model = routes.model AND l.day = CAST(d.decided_at AS DATE)
  LEFT JOIN rates f ON f.model = $fallback AND f.day = CAST(d.decided_at AS DATE)
  LEFT JOIN rates b ON b.model = $baseline AND b.day = CAST(d.decided_at AS DATE)
  WHERE d.confidence IS NOT NULL AND {filter}
), known AS (
  SELECT label, bin, usage_grade, lc IS NOT NULL AND fc IS NOT NULL AND bc IS NOT NULL AS priced, lc, fc, bc, cc
  FROM priced
)
SELECT
  label, bin,
  count(*) AS n,
  count(*) FILTER (WHERE priced) AS n_priced,
  coalesce(sum(lc) FILTER (WHERE priced), 0) AS label_cost,
  coalesce(sum(fc) FILTER (WHERE priced), 0) AS fallback_cost,
  coalesce(sum(bc) FILTER (WHERE priced), 0) AS baseline_cost,
  coalesce(sum(lc * lc) FILTER (WHERE priced), 0) AS label_cost_sq,
  coalesce(sum(fc * fc) FILTER (WHERE priced), 0) AS fallback_cost_sq,
  coalesce(sum(bc * bc) FILTER (WHERE priced), 0) AS baseline_cost_sq,
  coalesce(sum(lc * fc) FILTER (WHERE priced), 0) AS label_fallback,
  coalesce(sum(lc * bc) FILTER (WHERE priced), 0) AS label_baseline,
  coalesce(sum(fc * bc) FILTER (WHERE priced), 0) AS fallback_baseline,
  CASE WHEN count(*) FILTER (WHERE priced AND cc IS NULL) = 0  -- one unknown part makes the sum unknown, never smaller
    THEN coalesce(sum(cc) FILTER (WHERE priced), 0) END AS classifier_cost,
  count(*) FILTER (WHERE priced AND usage_grade = 'measured') AS n_measured,
  count(*) FILTER (WHERE priced AND usage_grade = 'assumed') AS n_assumed
FROM known
GROUP BY label, bin
ORDER BY label, bin
