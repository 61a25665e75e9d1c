-- One row per day (UTC): decisions with scores, and those whose confidence is below the line of their label.
-- Joined: lines(label, line). Parameters: those of {filter}.
SELECT
  CAST(d.decided_at AS DATE) AS day, count(*) AS n, count(*) FILTER (WHERE d.confidence < lines.line) AS n_below
FROM decisions d JOIN lines ON lines.label = d.top_label
WHERE d.confidence IS NOT NULL AND d.decided_at IS NOT NULL AND {filter}
GROUP BY ALL
ORDER BY day
