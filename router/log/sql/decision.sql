-- One decision with every column; cost_now is USD at the price book's rates for its day. Parameters: $id.
SELECT d.* REPLACE (CAST(d.id AS VARCHAR) AS id), {cost} AS cost_now
FROM decisions d
LEFT JOIN rates r ON r.model = d.model_used AND r.day = CAST(d.decided_at AS DATE) AND r.service_tier = rate_tier(d.service_tier)
WHERE d.id = CAST($id AS UUID)
