-- One row per model other than $baseline: tokens over the prompts that it and the baseline both answered.
-- n: prompts. *_own, *_base: sums of the mean tokens of a prompt's answers; *_sq, *_product: their squares and products.
-- Input is all of it, cached or not. Only complete answers whose tokens the provider reported.
-- Parameters: $baseline and those of {filter}.
WITH answers AS (
  SELECT
    d.prompt_sha256 AS prompt, d.model_used AS model,
    avg(d.input_tokens + coalesce(d.cache_read_tokens, 0) + coalesce(d.cache_write_tokens, 0)) AS i, avg(d.output_tokens) AS o
  FROM decisions d
  WHERE d.usage_grade = 'measured' AND d.outcome = 'ok' AND d.prompt_sha256 IS NOT NULL AND {usage_known} AND {filter}
  GROUP BY ALL
), base AS (
  SELECT * FROM answers WHERE model = $baseline
)
SELECT
  own.model, count(*) AS n,
  sum(own.i) AS input_own, sum(base.i) AS input_base, sum(own.i * own.i) AS input_own_sq, sum(base.i * base.i) AS input_base_sq,
  sum(own.i * base.i) AS input_product,
  sum(own.o) AS output_own, sum(base.o) AS output_base, sum(own.o * own.o) AS output_own_sq, sum(base.o * base.o) AS output_base_sq,
  sum(own.o * base.o) AS output_product
FROM answers own JOIN base ON base.prompt = own.prompt
WHERE own.model <> $baseline
GROUP BY own.model
ORDER BY own.model
