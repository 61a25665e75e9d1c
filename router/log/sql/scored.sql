-- One row per decision with scores: every label's score and its cost in USD under every model, at its own day's prices.
-- {columns}: score_<k> and cost_<k>; {joins}: rates of each model. Parameters: $label_<k>, $model_<k>, those of {filter}.
SELECT
  CAST(d.id AS VARCHAR) AS id, d.decided_at, d.model_chosen, d.cause, d.policy_fingerprint AS policy, d.prompt_chars, d.source,
  d.propensity, d.top_label AS label, d.confidence, d.margin, d.threshold, coalesce(d.model_used, d.model_chosen) AS model,
  CAST(d.classifier_cost_usd AS DOUBLE) AS classifier_cost{columns}
FROM decisions d{joins}
WHERE d.confidence IS NOT NULL AND {filter}
