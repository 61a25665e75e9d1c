-- One row per (label, runner_up, margin in hundredths): how close calls are (router.analysis.tables.PAIRS).
-- other_cost: USD had the runner-up's model answered. Joined: routes, rates. Parameters: those of {filter}.
WITH priced AS (
  SELECT
    d.top_label AS label, d.runner_up, margin_bin(d.margin) AS margin_bin,
    {label_cost} AS lc, {other_cost} AS oc
  FROM decisions d
  LEFT JOIN routes a ON a.label = d.top_label
  LEFT JOIN routes o ON o.label = d.runner_up
  LEFT JOIN rates l ON l.model = a.model AND l.day = CAST(d.decided_at AS DATE)
  LEFT JOIN rates t ON t.model = o.model AND t.day = CAST(d.decided_at AS DATE)
  WHERE d.margin IS NOT NULL AND {filter}
)
SELECT
  label, runner_up, margin_bin,
  count(*) AS n,
  count(*) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL) AS n_priced,
  coalesce(sum(lc) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS label_cost,
  coalesce(sum(oc) FILTER (WHERE lc IS NOT NULL AND oc IS NOT NULL), 0) AS other_cost
FROM priced
GROUP BY ALL
ORDER BY label, runner_up, margin_bin
