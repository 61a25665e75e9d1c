-- One row per (day, label, model that answered, cause): USD paid beside the baseline (router.analysis.tables.SPEND).
-- Joined: routes, rates. Parameters: $baseline model, those of {filter}.
WITH priced AS (
  SELECT
    CAST(d.decided_at AS DATE) AS day, d.top_label AS label, coalesce(d.model_used, d.model_chosen) AS model_used,
    d.cause, d.usage_grade, {cost} AS c, {baseline_cost} AS b, {label_cost} AS lc,
    -- A classifier that gave no scores is not taken to have charged; one that did and named no price is unknown.
    CASE WHEN d.confidence IS NULL THEN coalesce(d.classifier_cost_usd, 0) ELSE d.classifier_cost_usd END::DOUBLE AS cc,
    coalesce(d.attempts, 1) > 1 AS retried
  FROM decisions d
  LEFT JOIN routes ON routes.label = d.top_label
  LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE)
  LEFT JOIN rates b ON b.model = $baseline AND b.day = CAST(d.decided_at AS DATE)
  LEFT JOIN rates l ON l.model = routes.model AND l.day = CAST(d.decided_at AS DATE)
  WHERE {filter}
), known AS (SELECT *, c IS NOT NULL AND b IS NOT NULL AS priced FROM priced)
SELECT
  day, label, model_used, cause,
  count(*) AS n,
  count(*) FILTER (WHERE priced) AS n_priced,
  coalesce(sum(c) FILTER (WHERE priced), 0) AS cost,
  coalesce(sum(c * c) FILTER (WHERE priced), 0) AS cost_sq,
  coalesce(sum(b) FILTER (WHERE priced), 0) AS baseline_cost,
  coalesce(sum(b * b) FILTER (WHERE priced), 0) AS baseline_sq,
  coalesce(sum(c * b) FILTER (WHERE priced), 0) AS cost_baseline,
  coalesce(sum(coalesce(lc, c)) FILTER (WHERE priced), 0) AS label_cost,
  CASE WHEN count(*) FILTER (WHERE priced AND cc IS NULL) = 0
    THEN coalesce(sum(cc) FILTER (WHERE priced), 0) END AS classifier_cost,
  -- Nobody says what an attempt that failed before the reply cost: unknown where there was one.
  CASE WHEN count(*) FILTER (WHERE priced AND retried) = 0 THEN 0.0::DOUBLE END AS failed_cost,
  count(*) FILTER (WHERE NOT priced) AS n_unpriced,
  count(*) FILTER (WHERE priced AND usage_grade = 'measured') AS n_measured,
  count(*) FILTER (WHERE priced AND usage_grade = 'assumed') AS n_assumed
FROM known
GROUP BY ALL
ORDER BY day, label, model_used, cause
