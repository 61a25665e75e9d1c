-- One row per (day, label, model that answered, cause): USD paid beside the baseline (router.analysis.tables.SPEND).
-- {source}: rows of `hourly`. Joined: routes, rates. Parameters: $baseline model.
WITH daily AS (  -- summed up before anything is joined: prices are by day
  SELECT
    CAST(hour AS DATE) AS day, label, model, answered, cause, usage_grade, usage_known, price_band,
    sum(n) AS n, sum(n_retried) AS n_retried, sum(classifier_cost) AS classifier_cost,
    -- A classifier that gave no scores is not taken to have charged; one that did and named no price is unknown.
    sum(n_classifier_unknown) AS n_classifier_unknown,
    sum(input_tokens) AS input_tokens, sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens, sum(output_tokens) AS output_tokens,
    sum(input_input) AS input_input, sum(input_read) AS input_read, sum(input_write) AS input_write, sum(input_output) AS input_output,
    sum(read_read) AS read_read, sum(read_write) AS read_write, sum(read_output) AS read_output,
    sum(write_write) AS write_write, sum(write_output) AS write_output, sum(output_output) AS output_output
  FROM ({source})
  GROUP BY day, label, model, answered, cause, usage_grade, usage_known, price_band
  HAVING sum(n) > 0  -- keys whose rows were all taken away again
), rated AS (
  SELECT s.*, {rates}
  FROM daily s
  LEFT JOIN routes ON routes.label = s.label
  LEFT JOIN rates r ON s.answered AND r.model = s.model AND r.day = s.day
  LEFT JOIN rates b ON b.model = $baseline AND b.day = s.day
  LEFT JOIN rates l ON l.model = routes.model AND l.day = s.day
), priced AS (
  SELECT
    s.day, s.label, s.model AS model_used, s.cause, s.usage_grade, s.n, s.n_retried, s.classifier_cost,
    s.n_classifier_unknown,
    {cost} AS c, {baseline_cost} AS b, {label_cost} AS lc,
    {cost_sq} AS cc, {baseline_sq} AS bb, {cost_baseline} AS cb
  FROM rated s
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
