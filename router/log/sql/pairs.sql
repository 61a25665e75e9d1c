-- One row per (label, runner_up, margin in hundredths): how close calls are (router.analysis.tables.PAIRS).
-- other_cost: USD had the runner-up's model answered. {source}: rows of `margins`. Joined: routes, rates.
WITH priced AS (
  SELECT s.label, s.runner_up, s.margin_bin, s.n, {label_cost} AS lc, {other_cost} AS oc
  FROM ({source}) s
  LEFT JOIN routes a ON a.label = s.label
  LEFT JOIN routes o ON o.label = s.runner_up
  LEFT JOIN rates l ON l.model = a.model AND l.day = s.month
  LEFT JOIN rates t ON t.model = o.model AND t.day = s.month
)
SELECT
  label, runner_up, margin_bin,
  CAST(sum(n) AS BIGINT) AS n,
  CAST(coalesce(sum(n) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS BIGINT) AS n_priced,
  coalesce(sum(lc) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS label_cost,
  coalesce(sum(oc) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS other_cost
FROM priced
GROUP BY label, runner_up, margin_bin
ORDER BY label, runner_up, margin_bin
