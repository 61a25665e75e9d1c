-- One row per decision, newest first: one page of the log, bounded by insertion so that pages do not shift.
-- Parameters: $limit, $skip rows; those of {filter}.
SELECT
  CAST(id AS VARCHAR) AS id, decided_at, left(prompt, 400) AS prompt, prompt_chars, prompt_sha256, top_label,
  confidence, margin, runner_up, coalesce(model_used, model_chosen) AS model, model_chosen, cause, outcome,
  is_fallback, {cost} AS cost_usd, usage_grade
FROM decisions d
LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE)
WHERE {filter}
ORDER BY decided_at DESC, id DESC
LIMIT $limit OFFSET $skip
