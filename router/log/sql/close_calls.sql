-- Decisions whose two best labels are the given pair and closer than $close, closest first.
-- Parameters: $a, $b labels, $close margin, $limit, those of {filter}.
SELECT
  CAST(id AS VARCHAR) AS id, decided_at, left(prompt, 400) AS prompt, top_label, runner_up, confidence, margin,
  coalesce(model_used, model_chosen) AS model
FROM decisions d
WHERE margin < $close
  AND ((top_label = $a AND runner_up = $b) OR (top_label = $b AND runner_up = $a)) AND {filter}
ORDER BY margin, decided_at DESC, id
LIMIT $limit
