-- One row per decision that a person judged and queue (NULL: none), with the newest judgement there: queues are never mixed.
-- Parameters: those of {filter}. One that ends as unsure is not among them.
WITH judged AS (
  SELECT decision_id, queue, inclusion_probability, verdict, correct_label, note, judged_at
  FROM feedback
  QUALIFY row_number() OVER (
    PARTITION BY decision_id, queue ORDER BY judged_at DESC, verdict
  ) = 1
)
SELECT
  CAST(d.id AS VARCHAR) AS id, d.decided_at, d.top_label AS label, d.confidence, j.verdict, j.queue, j.inclusion_probability,
  d.threshold,
  d.cause = 'routed' AND coalesce(d.model_used = d.model_chosen, true) AS is_served,
  CASE WHEN j.verdict = 'right' THEN d.top_label ELSE j.correct_label END AS true_label, j.note
FROM judged j JOIN decisions d ON d.id = j.decision_id
WHERE j.verdict IN ('right', 'wrong') AND d.confidence IS NOT NULL AND {filter}
ORDER BY d.decided_at, d.id, j.queue
