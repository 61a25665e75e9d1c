-- One row per bucket: the same as latency.sql from bins, each quantile within 1 %. {source}: rows of `latencies`.
-- A bin's value is its middle in the sense of relative error, 2 base^k / (base + 1). Parameters: $width, $base.
WITH summed AS (
  SELECT time_bucket(CAST($width AS INTERVAL), CAST(s.day AS TIMESTAMP)) AS bucket, s.ms_bin, CAST(sum(s.n) AS BIGINT) AS n
  FROM ({source}) s
  GROUP BY bucket, s.ms_bin
), running AS (
  SELECT
    *, sum(n) OVER (PARTITION BY bucket ORDER BY ms_bin) AS upto, sum(n) OVER (PARTITION BY bucket) AS total
  FROM summed
)
SELECT
  bucket,
  CAST(any_value(total) AS BIGINT) AS n,
  2 * power($base, min(ms_bin) FILTER (WHERE upto >= 0.5 * total)) / ($base + 1) AS p50_ms,
  2 * power($base, min(ms_bin) FILTER (WHERE upto >= 0.95 * total)) / ($base + 1) AS p95_ms
FROM running
GROUP BY bucket
ORDER BY bucket
