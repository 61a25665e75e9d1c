-- Decisions that another threshold sends to another model, nearest to the candidate line first.
-- Joined: routes(label, model, production, candidate thresholds), rates. Parameters: $fallback, $min_margin (or NULL),
-- $limit, those of {filter}.
WITH scored AS (
  SELECT
    d.*, routes.candidate,
    CASE WHEN d.confidence < routes.production OR coalesce(d.margin < $min_margin, false) THEN $fallback ELSE routes.model END AS production_model,
    CASE WHEN d.confidence < routes.candidate OR coalesce(d.margin < $min_margin, false) THEN $fallback ELSE routes.model END AS candidate_model
  FROM decisions d JOIN routes ON routes.label = d.top_label
  WHERE d.confidence IS NOT NULL AND {filter}
), changed AS (SELECT * FROM scored WHERE production_model <> candidate_model)
SELECT
  CAST(d.id AS VARCHAR) AS id, d.decided_at, left(d.prompt, 400) AS prompt, d.top_label, d.confidence, d.margin,
  d.production_model, d.candidate_model, {candidate_cost} - {production_cost} AS cost_change
FROM changed d
LEFT JOIN rates p ON p.model = d.production_model AND p.day = CAST(d.decided_at AS DATE) AND p.service_tier = rate_tier(d.service_tier)
LEFT JOIN rates c ON c.model = d.candidate_model AND c.day = CAST(d.decided_at AS DATE) AND c.service_tier = rate_tier(d.service_tier)
ORDER BY abs(d.confidence - d.candidate), d.decided_at DESC, d.id
LIMIT $limit
