-- One row per (label, bin of confidence): decisions (router.analysis.tables.BINS). {source}: rows of `cells`.
SELECT s.label, CAST(s.bin AS INTEGER) AS bin, CAST(sum(s.n) AS BIGINT) AS n
FROM ({source}) s
GROUP BY s.label, s.bin
HAVING sum(s.n) > 0
ORDER BY s.label, s.bin
