-- One row per (production model, candidate model) among decisions that cross a line: how many and the change in USD.
-- Joined and parameters: as in flips.sql, without $limit.
WITH crossed AS (
  SELECT
    d.*,
    CASE WHEN d.confidence < routes.production OR coalesce(d.margin < $min_margin, false) THEN $fallback ELSE routes.model END AS production_model,
    CASE WHEN d.confidence < routes.candidate OR coalesce(d.margin < $min_margin, false) THEN $fallback ELSE routes.model END AS candidate_model
  FROM decisions d JOIN routes ON routes.label = d.top_label
  WHERE d.confidence IS NOT NULL
    AND (d.confidence < routes.production) <> (d.confidence < routes.candidate) AND {filter}
), priced AS (
  SELECT d.production_model, d.candidate_model, {candidate_cost} - {production_cost} AS change
  FROM crossed d
  LEFT JOIN rates p ON p.model = d.production_model AND p.day = CAST(d.decided_at AS DATE) AND p.service_tier = rate_tier(d.service_tier)
  LEFT JOIN rates c ON c.model = d.candidate_model AND c.day = CAST(d.decided_at AS DATE) AND c.service_tier = rate_tier(d.service_tier)
)
SELECT production_model, candidate_model, count(*) AS n, sum(change) AS cost_change, count(change) AS n_priced
FROM priced GROUP BY ALL ORDER BY n DESC, production_model, candidate_model
