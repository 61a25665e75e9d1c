-- One row per (label, bin of confidence): mergeable sums for the sweep (router.analysis.tables.CELLS).
-- USD had the label's, the fallback or the baseline model answered with the same tokens; sums are over priced rows.
-- {source}: rows of `cells`, by month or day. Joined: routes(label, model), rates. Parameters: $fallback, $baseline models.
WITH priced AS (
  SELECT
    s.label, s.bin, s.usage_grade, s.n, s.classifier_cost, s.n_classifier_unknown,
    {label_cost} AS lc, {fallback_cost} AS fc, {baseline_cost} AS bc,
    {label_sq} AS ll, {fallback_sq} AS ff, {baseline_sq} AS bb,
    {label_fallback} AS lf, {label_baseline} AS lb, {fallback_baseline} AS fb
  FROM ({source}) s
  JOIN routes ON routes.label = s.label
  LEFT JOIN rates l ON l.model = routes.model AND l.day = s.month
  LEFT JOIN rates f ON f.model = $fallback AND f.day = s.month
  LEFT JOIN rates b ON b.model = $baseline AND b.day = s.month
), known AS (SELECT *, lc IS NOT NULL AND fc IS NOT NULL AND bc IS NOT NULL AS priced FROM priced)
SELECT
  label, bin,
  CAST(sum(n) AS BIGINT) AS n,
  CAST(coalesce(sum(n) FILTER (WHERE priced), 0) AS BIGINT) AS n_priced,
  coalesce(sum(lc) FILTER (WHERE priced), 0) AS label_cost,
  coalesce(sum(fc) FILTER (WHERE priced), 0) AS fallback_cost,
  coalesce(sum(bc) FILTER (WHERE priced), 0) AS baseline_cost,
  coalesce(sum(ll) FILTER (WHERE priced), 0) AS label_cost_sq,
  coalesce(sum(ff) FILTER (WHERE priced), 0) AS fallback_cost_sq,
  coalesce(sum(bb) FILTER (WHERE priced), 0) AS baseline_cost_sq,
  coalesce(sum(lf) FILTER (WHERE priced), 0) AS label_fallback,
  coalesce(sum(lb) FILTER (WHERE priced), 0) AS label_baseline,
  coalesce(sum(fb) FILTER (WHERE priced), 0) AS fallback_baseline,
  -- One unknown part makes the sum unknown, never smaller.
  CASE WHEN coalesce(sum(n_classifier_unknown) FILTER (WHERE priced), 0) = 0
    THEN coalesce(sum(CAST(classifier_cost AS DOUBLE)) FILTER (WHERE priced), 0) END AS classifier_cost,
  CAST(coalesce(sum(n) FILTER (WHERE priced AND usage_grade = 'measured'), 0) AS BIGINT) AS n_measured,
  CAST(coalesce(sum(n) FILTER (WHERE priced AND usage_grade = 'assumed'), 0) AS BIGINT) AS n_assumed
FROM known
GROUP BY label, bin
ORDER BY label, bin
