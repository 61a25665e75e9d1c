-- One row per key: sums over the rows of a roll-up. {keys}, {names}: key columns with and without what they are made of;
-- {sums}: columns that are added up. {source}: rows of a roll-up.
SELECT {keys}, {sums}
FROM ({source}) s
GROUP BY {names}
HAVING sum(s.n) <> 0  -- keys whose rows were all taken away again
ORDER BY {names}
