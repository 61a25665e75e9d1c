-- One row per (label of the policy, time with the same prices, bin, what sets its rates, usage known, grade): sums that
-- pricing.price_cells turns into costs. {source}: rows of `cells`, by month or day.
-- Parameters: $served, the service tiers of the log. Joined: routes(label, place), epochs(day, number); epoch -1 has no time, so no price.
SELECT
  routes.place, coalesce(epochs.number, -1) AS epoch, CAST(s.bin AS INTEGER) AS bin, s.price_band, s.usage_known,
  CAST(list_position($served, s.service_tier) AS INTEGER) - 1 AS tier, s.long_writes,
  CASE s.usage_grade WHEN 'measured' THEN 1 WHEN 'assumed' THEN 2 ELSE 0 END AS grade,
  CAST(sum(s.n) AS DOUBLE) AS n,
  CAST(sum(s.classifier_cost) AS DOUBLE) AS classifier_cost, CAST(sum(s.n_classifier_unknown) AS DOUBLE) AS n_classifier_unknown,
  CAST(sum(s.input_tokens) AS DOUBLE) AS input_tokens, CAST(sum(s.cache_read_tokens) AS DOUBLE) AS cache_read_tokens,
  CAST(sum(s.cache_write_tokens) AS DOUBLE) AS cache_write_tokens, CAST(sum(s.cache_write_1h_tokens) AS DOUBLE) AS cache_write_1h_tokens,
  CAST(sum(s.output_tokens) AS DOUBLE) AS output_tokens,
  sum(s.input_input) AS input_input, sum(s.input_read) AS input_read, sum(s.input_write) AS input_write, sum(s.input_output) AS input_output,
  sum(s.read_read) AS read_read, sum(s.read_write) AS read_write, sum(s.read_output) AS read_output,
  sum(s.write_write) AS write_write, sum(s.write_output) AS write_output, sum(s.output_output) AS output_output,
  sum(s.input_long) AS input_long, sum(s.read_long) AS read_long, sum(s.write_long) AS write_long, sum(s.output_long) AS output_long,
  sum(s.long_long) AS long_long
FROM ({source}) s
JOIN routes ON routes.label = s.label
LEFT JOIN epochs ON epochs.day = s.month
GROUP BY routes.place, epoch, s.bin, s.price_band, s.usage_known, s.service_tier, s.long_writes, grade
HAVING sum(s.n) > 0  -- keys whose rows were all taken away again
