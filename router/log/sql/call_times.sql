-- One row per model and bin of time: calls that gave a reply and were timed. `ms`: the bin's middle in the sense of relative
-- error, within 1 % of every time in it; total_ms: their sum. Parameters: $base, $replies, those of {filter}.
SELECT
  d.model_used AS model, 2 * power($base, ms_bin(d.total_ms)) / ($base + 1) AS ms, count(*) AS n, sum(d.total_ms) AS total_ms
FROM decisions d
WHERE d.total_ms >= 0 AND d.model_used IS NOT NULL AND list_contains($replies, d.outcome) AND {filter}
GROUP BY ALL
ORDER BY model, ms
