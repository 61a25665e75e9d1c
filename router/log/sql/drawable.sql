-- One row per decision with scores that was not drawn or judged yet, in the order of ids: what a review queue is drawn from.
-- {columns}: of decisions d; what {cost} needs is joined: rates. Joined: left_out (id). Parameters: those of {filter}.
SELECT {columns}
FROM decisions d
LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE) AND r.service_tier = rate_tier(d.service_tier)
WHERE d.confidence IS NOT NULL AND d.top_label IS NOT NULL AND {filter}
  AND d.id NOT IN (SELECT CAST(id AS UUID) FROM left_out)
ORDER BY d.id
