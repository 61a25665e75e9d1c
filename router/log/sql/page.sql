-- One row per decision, newest first: one page of the log, bounded by insertion so that pages do not shift.
-- The rows are found first, by their time alone, and only those of the page are read whole.
-- Joined: rates. Parameters: $limit, $skip rows; those of {filter}.
WITH picked AS (
  SELECT d.rowid AS place, d.decided_at, d.id FROM decisions d
  WHERE {filter}
  ORDER BY d.decided_at DESC, d.id DESC
  LIMIT $limit OFFSET $skip
)
SELECT
  CAST(d.id AS VARCHAR) AS id, d.decided_at, left(d.prompt, 400) AS prompt, d.prompt_chars, d.prompt_sha256, d.top_label,
  d.confidence, d.margin, d.runner_up, coalesce(d.model_used, d.model_chosen) AS model, d.model_chosen, d.cause, d.outcome,
  d.is_fallback, {cost} AS cost_usd, d.usage_grade
FROM decisions d
LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE) AND r.service_tier = rate_tier(d.service_tier)
WHERE d.rowid IN (SELECT place FROM picked)
ORDER BY d.decided_at DESC, d.id DESC
