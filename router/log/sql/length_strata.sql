-- One row per (label, tenth of its prompts by length in characters, model): decisions, and sums and squares of tokens.
-- Input is all of it, cached or not. Only complete answers whose tokens the provider reported.
-- Parameters: those of {filter}.
WITH answers AS (
  SELECT
    d.top_label AS label, d.model_used AS model,
    CAST(d.input_tokens + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0) AS DOUBLE) AS i,
    CAST(d.output_tokens AS DOUBLE) AS o, d.prompt_chars AS chars
  FROM decisions d
  WHERE d.usage_grade = 'measured' AND d.outcome = 'ok' AND d.top_label IS NOT NULL AND d.model_used IS NOT NULL
    AND {usage_known} AND {filter}
), edges AS (
  SELECT label, quantile_disc(chars, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) AS cuts FROM answers GROUP BY label
)
SELECT
  a.label, CAST(len(list_filter(e.cuts, lambda x: x < a.chars)) AS INTEGER) AS decile, a.model,
  count(*) AS n, sum(a.i) AS "input", sum(a.i * a.i) AS input_sq, sum(a.o) AS "output", sum(a.o * a.o) AS output_sq
FROM answers a JOIN edges e ON e.label = a.label
GROUP BY ALL
ORDER BY ALL
