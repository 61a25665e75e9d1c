-- One row per decision that a person judged, with the judgement that counts: of the audit queue first, then the newest.
-- Parameters: those of {filter}. Verdicts are right or wrong; unsure ones judge nothing.
WITH judged AS (
  SELECT decision_id, queue, inclusion_probability, verdict, correct_label, judged_at
  FROM feedback
  WHERE verdict IN ('right', 'wrong')
  QUALIFY row_number() OVER (
    PARTITION BY decision_id ORDER BY coalesce(queue = 'audit', false) DESC, judged_at DESC, verdict, queue
  ) = 1
)
SELECT
  CAST(d.id AS VARCHAR) AS id, d.decided_at, d.top_label AS label, d.confidence, j.verdict, j.queue, j.inclusion_probability,
  d.threshold,
  d.cause = 'routed' AND coalesce(d.model_used = d.model_chosen, true) AS is_served,
  CASE WHEN j.verdict = 'right' THEN d.top_label ELSE j.correct_label END AS true_label
FROM judged j JOIN decisions d ON d.id = j.decision_id
WHERE d.confidence IS NOT NULL AND {filter}
ORDER BY d.decided_at, d.id
