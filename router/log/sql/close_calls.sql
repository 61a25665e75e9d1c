-- Prompts whose two best labels are the given pair and closer than $close, closest first; the same prompt with the same winner once,
-- with how many decisions (n) it stands for.
-- Parameters: $a, $b labels, $close margin, $limit, those of {filter}.
WITH close AS (
  SELECT
    d.rowid AS place, count(*) OVER same AS n,
    row_number() OVER (same ORDER BY margin, decided_at DESC, id) AS number
  FROM decisions d
  WHERE margin < $close
    AND ((top_label = $a AND runner_up = $b) OR (top_label = $b AND runner_up = $a)) AND {filter}
  WINDOW same AS (PARTITION BY coalesce(prompt_sha256, CAST(id AS VARCHAR)), top_label)
)
SELECT
  CAST(d.id AS VARCHAR) AS id, d.decided_at, left(d.prompt, 400) AS prompt, d.top_label, d.runner_up, d.confidence, d.margin,
  coalesce(d.model_used, d.model_chosen) AS model, close.n
FROM close JOIN decisions d ON d.rowid = close.place
WHERE close.number = 1
ORDER BY d.margin, d.decided_at DESC, d.id
LIMIT $limit
