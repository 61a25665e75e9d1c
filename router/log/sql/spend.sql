-- One row per (day, label, model that answered, cause): USD paid beside the baseline (router.analysis.tables.SPEND).
-- {source}: rows of `hourly`. Joined: routes, rates. Parameters: $baseline model.
WITH priced AS (
  SELECT
    CAST(s.hour AS DATE) AS day, s.label, s.model AS model_used, s.cause, s.usage_grade, s.n, s.n_retried,
    -- A classifier that gave no scores is not taken to have charged; one that did and named no price is unknown.
    s.classifier_cost, s.n_classifier_unknown,
    {cost} AS c, {baseline_cost} AS b, {label_cost} AS lc,
    {cost_sq} AS cc, {baseline_sq} AS bb, {cost_baseline} AS cb
  FROM ({source}) s
  LEFT JOIN routes ON routes.label = s.label
  LEFT JOIN rates r ON s.answered AND r.model = s.model AND r.day = CAST(s.hour AS DATE)
  LEFT JOIN rates b ON b.model = $baseline AND b.day = CAST(s.hour AS DATE)
  LEFT JOIN rates l ON l.model = routes.model AND l.day = CAST(s.hour AS DATE)
), known AS (SELECT *, c IS NOT NULL AND b IS NOT NULL AS priced FROM priced)
SELECT
  day, label, model_used, cause,
  CAST(sum(n) AS BIGINT) AS n,
  CAST(coalesce(sum(n) FILTER (WHERE priced), 0) AS BIGINT) AS n_priced,
  coalesce(sum(c) FILTER (WHERE priced), 0) AS cost,
  coalesce(sum(cc) FILTER (WHERE priced), 0) AS cost_sq,
  coalesce(sum(b) FILTER (WHERE priced), 0) AS baseline_cost,
  coalesce(sum(bb) FILTER (WHERE priced), 0) AS baseline_sq,
  coalesce(sum(cb) FILTER (WHERE priced), 0) AS cost_baseline,
  coalesce(sum(coalesce(lc, c)) FILTER (WHERE priced), 0) AS label_cost,
  CASE WHEN coalesce(sum(n_classifier_unknown) FILTER (WHERE priced), 0) = 0
    THEN coalesce(sum(CAST(classifier_cost AS DOUBLE)) FILTER (WHERE priced), 0) END AS classifier_cost,
  -- Nobody says what an attempt that failed before the reply cost: unknown where there was one.
  CASE WHEN coalesce(sum(n_retried) FILTER (WHERE priced), 0) = 0 THEN 0.0::DOUBLE END AS failed_cost,
  CAST(coalesce(sum(n) FILTER (WHERE NOT priced), 0) AS BIGINT) AS n_unpriced,
  CAST(coalesce(sum(n) FILTER (WHERE priced AND usage_grade = 'measured'), 0) AS BIGINT) AS n_measured,
  CAST(coalesce(sum(n) FILTER (WHERE priced AND usage_grade = 'assumed'), 0) AS BIGINT) AS n_assumed
FROM known
GROUP BY day, label, model_used, cause
ORDER BY day, label, model_used, cause
