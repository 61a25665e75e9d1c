-- One row per decision with scores of a list of ids: what an audit's promise needs to know of it, beside the verdict.
-- is_served: the label's own model answered. Parameters: $ids, those of {filter}.
SELECT
  CAST(d.id AS VARCHAR) AS id, d.top_label AS label, d.confidence, d.margin, d.classifier, d.labels_fingerprint, d.decided_at,
  d.cause, coalesce(d.model_used, d.model_chosen) AS model, d.threshold,
  coalesce(d.cause = 'routed' AND coalesce(d.model_used, d.model_chosen) = d.model_chosen, false) AS is_served
FROM decisions d
WHERE d.confidence IS NOT NULL AND d.top_label IS NOT NULL
  AND d.id IN (SELECT CAST(unnest($ids::VARCHAR[]) AS UUID)) AND {filter}
ORDER BY d.decided_at, d.id
