-- One row per (label of the policy, time with the same prices, bin, what sets its rates, usage known, grade): sums that
-- pricing.price_cells turns into costs. {source}: rows of `cells`, by month or day. {sums}: those of tokens and of their products, of
-- kinds of tokens that the log has.
-- Parameters: $served, the service tiers of the log. Joined: routes(label, place), epochs(day, number); epoch -1 has no time, so no price.
SELECT
  routes.place, coalesce(epochs.number, -1) AS epoch, CAST(s.bin AS INTEGER) AS bin, s.price_band, s.usage_known,
  CAST(list_position($served, s.service_tier) AS INTEGER) - 1 AS tier, s.long_writes,
  CASE s.usage_grade WHEN 'measured' THEN 1 WHEN 'assumed' THEN 2 ELSE 0 END AS grade,
  CAST(sum(s.n) AS DOUBLE) AS n,
  CAST(sum(s.classifier_cost) AS DOUBLE) AS classifier_cost, CAST(sum(s.n_classifier_unknown) AS DOUBLE) AS n_classifier_unknown,
  {sums}
FROM ({source}) s
JOIN routes ON routes.label = s.label
LEFT JOIN epochs ON epochs.day = s.month
GROUP BY routes.place, epoch, s.bin, s.price_band, s.usage_known, s.service_tier, s.long_writes, grade
HAVING sum(s.n) > 0  -- keys whose rows were all taken away again
