-- One row per judged decision and queue; queue NULL: said of it beside any draw (a thumb, a complaint), for reading alone.
-- Each queue has its own last word: what is said of a decision later or elsewhere does not overwrite an auditor's verdict.
-- Of equal times "wrong" counts before the others, so that the order of rows does not matter. The probability is the first noted one.
-- Parameters: those of {filter}.
WITH said AS (
  SELECT f.*, row_number() OVER (
    PARTITION BY decision_id, queue ORDER BY judged_at DESC NULLS LAST, verdict DESC, correct_label, judged_by, note
  ) AS place
  FROM feedback f
),
drawn AS (
  SELECT decision_id, queue, arg_min(inclusion_probability, judged_at) AS inclusion_probability
  FROM feedback
  WHERE queue IN ('audit', 'estimate')
  GROUP BY decision_id, queue
)
SELECT
  CAST(d.id AS VARCHAR) AS id, d.top_label AS label, d.confidence, coalesce(d.model_used, d.model_chosen) AS model,
  l.verdict, l.correct_label, l.queue, w.inclusion_probability, l.judged_at, l.judged_by, d.threshold,
  d.cause, d.propensity,
  coalesce(d.cause = 'routed' AND coalesce(d.model_used, d.model_chosen) = d.model_chosen, false) AS is_served,
  coalesce(l.correct_label, CASE WHEN l.verdict = 'right' THEN d.top_label END) AS true_label
FROM said l
JOIN decisions d ON d.id = l.decision_id
LEFT JOIN drawn w ON w.decision_id = l.decision_id AND w.queue = l.queue
WHERE l.place = 1 AND {filter}
ORDER BY l.judged_at, d.id, l.queue
