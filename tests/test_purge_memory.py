"""Erasing nearly everything needs no more memory than a page of it: rows are copied in steps, within a limit."""

from __future__ import annotations

import json

import pytest
from log_samples import run

PURGE = """
    import json, sys, threading, time
    from pathlib import Path
    from router.log import rollups
    from router.log.recovery import open_database
    from router.log.schema import DATABASE, connect, transaction
    from router.log.upkeep import request

    data, n = Path(sys.argv[1]), int(sys.argv[2])
    con = connect(data / DATABASE)
    con.execute("SET memory_limit = '600MB'").fetchall()
    for start in range(0, n, 1_000_000):
        con.execute(f'''
            INSERT INTO decisions BY NAME SELECT uuid() AS id, TIMESTAMP '2026-08-01' + INTERVAL (i * 8640000 / {n}) SECOND
              AS decided_at, 'please answer question number ' || i AS prompt, 'session ' || i % 50000 AS session_id,
              md5(i::VARCHAR) || md5((i + 1)::VARCHAR) AS prompt_sha256, ['simple', 'coding'][1 + i % 2] AS top_label,
              0.5 + (i * 7919 % 5000) / 10000.0 AS confidence, MAP {{'simple': 0.5, 'coding': (i % 1000) / 2000.0}} AS scores,
              'routed' AS cause, 'gpt-4o-mini' AS model_used, (i % 900)::INTEGER AS input_tokens, 5 AS output_tokens
            FROM range({start}, {min(n, start + 1_000_000)}) t(i)''').fetchall()
    with transaction(con):
        rollups.refill(con)
    con.execute("CHECKPOINT").fetchall()
    con.close()

    def used() -> float:
        return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

    base, peak, done = used(), 0.0, threading.Event()

    def watch() -> None:
        global peak
        while not done.wait(0.01):
            peak = max(peak, used())

    watching = threading.Thread(target=watch)
    watching.start()
    answer = request(data, "retention", "days", "2026-10-30T00:00:00")
    done.set()
    watching.join()
    con = open_database(data)
    left = con.execute("SELECT count(*), (SELECT sum(n) FROM hourly) FROM decisions").fetchone()
    con.close()
    print()  # DuckDB draws progress bars where Python runs no file
    print(json.dumps([answer.decisions, *left, peak - base]))
"""


@pytest.mark.skipif("not __import__('os').path.exists('/proc/self/statm')", reason="looks at /proc")
@pytest.mark.parametrize("n", [300_000, pytest.param(10_000_000, marks=pytest.mark.soak)])
def test_erasing_nine_tenths_of_a_log_takes_less_than_500_mb(tmp_path, n):
    gone, left, counted, grown = json.loads(run(PURGE, tmp_path, n, timeout=280).splitlines()[-1])
    assert (gone, left, counted) == (n * 9 // 10, n // 10, n // 10)
    assert grown < 500
