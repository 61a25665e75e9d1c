-- One row per (label, runner_up, margin in hundredths): how close calls are (router.analysis.tables.PAIRS).
-- other_cost: USD had the runner-up's model answered. {source}: rows of `margins`. Joined: routes, rates.
WITH summed AS (  -- before anything is joined
  SELECT
    month, label, runner_up, margin_bin, usage_known, price_band, sum(n) AS n, sum(input_tokens) AS input_tokens,
    sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
    sum(output_tokens) AS output_tokens
  FROM ({source})
  GROUP BY month, label, runner_up, margin_bin, usage_known, price_band
), rated AS (
  SELECT s.*, {rates}
  FROM summed s
  LEFT JOIN routes a ON a.label = s.label
  LEFT JOIN routes o ON o.label = s.runner_up
  LEFT JOIN rates l ON l.model = a.model AND l.day = s.month
  LEFT JOIN rates t ON t.model = o.model AND t.day = s.month
), priced AS (
  SELECT s.label, s.runner_up, s.margin_bin, s.n, {label_cost} AS lc, {other_cost} AS oc FROM rated s
)
SELECT
  label, runner_up, margin_bin,
  CAST(sum(n) AS BIGINT) AS n,
  CAST(coalesce(sum(n) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS BIGINT) AS n_priced,
  coalesce(sum(lc) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS label_cost,
  coalesce(sum(oc) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS other_cost
FROM priced
GROUP BY label, runner_up, margin_bin
HAVING sum(n) > 0  -- keys whose rows were all taken away again
ORDER BY label, runner_up, margin_bin
