-- One row per (label of the policy, time with the same prices, bin, price band, usage known, grade): sums that
-- pricing.price_cells turns into costs. {source}: rows of `cells`, by month or day.
-- Joined: routes(label, place), epochs(day, number); epoch -1 has no time, so no price.
SELECT
  routes.place, coalesce(epochs.number, -1) AS epoch, CAST(s.bin AS INTEGER) AS bin, s.price_band, s.usage_known,
  CASE s.usage_grade WHEN 'measured' THEN 1 WHEN 'assumed' THEN 2 ELSE 0 END AS grade,
  CAST(sum(s.n) AS DOUBLE) AS n,
  CAST(sum(s.classifier_cost) AS DOUBLE) AS classifier_cost, CAST(sum(s.n_classifier_unknown) AS DOUBLE) AS n_classifier_unknown,
  CAST(sum(s.input_tokens) AS DOUBLE) AS input_tokens, CAST(sum(s.cache_read_tokens) AS DOUBLE) AS cache_read_tokens,
  CAST(sum(s.cache_write_tokens) AS DOUBLE) AS cache_write_tokens, CAST(sum(s.output_tokens) AS DOUBLE) AS output_tokens,
  sum(s.input_input) AS input_input, sum(s.input_read) AS input_read, sum(s.input_write) AS input_write, sum(s.input_output) AS input_output,
  sum(s.read_read) AS read_read, sum(s.read_write) AS read_write, sum(s.read_output) AS read_output,
  sum(s.write_write) AS write_write, sum(s.write_output) AS write_output, sum(s.output_output) AS output_output
FROM ({source}) s
JOIN routes ON routes.label = s.label
LEFT JOIN epochs ON epochs.day = s.month
GROUP BY routes.place, epoch, s.bin, s.price_band, s.usage_known, grade
HAVING sum(s.n) > 0  -- keys whose rows were all taken away again
