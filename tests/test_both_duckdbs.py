"""One file, both ends of the DuckDB range: each opens, reads and appends to what the other wrote.

Needs the oldest DuckDB in a folder of its own (``pip install --target DIR --no-deps duckdb==1.5.5``), named by
``ROUTESCOPE_OLDEST_DUCKDB``; ``.ci/run`` makes one.
"""

import os
from pathlib import Path

import pytest
from log_samples import run

from router.log import open_log
from router.log.writer import Writer

OLDEST = os.environ.get("ROUTESCOPE_OLDEST_DUCKDB", "")
HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not OLDEST, reason="no second DuckDB: ROUTESCOPE_OLDEST_DUCKDB names no folder"
)

WRITE = """
    import sys
    from pathlib import Path
    import duckdb
    from log_samples import SEED, decision
    from router.log.writer import Writer

    writer = Writer(Path(sys.argv[1]))
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        assert writer.log(decision(number), SEED)
    writer.close()
    print(duckdb.__version__)
"""
READ = """
    import sys
    from router.log import open_log

    with open_log(sys.argv[1]) as log:
        rolled = log.rows("SELECT sum(n) FROM hourly")[0][0]
        print(log.mode, log.count(), rolled, len(log.rows("SELECT DISTINCT id FROM decisions")), bool(log.note))
"""


def old(script, *args):
    """Run a script on the oldest DuckDB; what it printed."""
    return run(
        script, *args, env={"PYTHONPATH": os.pathsep.join([OLDEST, str(HERE.parent), str(HERE)])}
    ).strip()


def test_a_file_written_by_either_is_read_and_appended_to_by_the_other(tmp_path):
    import duckdb

    assert old(WRITE, tmp_path, 0, 40) != duckdb.__version__
    with open_log(tmp_path) as log:
        assert (log.mode, log.count(), log.note) == ("file", 40, "")
    run(WRITE, tmp_path, 40, 100)
    assert old(READ, tmp_path) == "file 100 100 100 False"
    old(WRITE, tmp_path, 100, 120)
    assert run(READ, tmp_path).strip() == "file 120 120 120 False"
    assert not (tmp_path / "damaged").exists()


def test_what_a_killed_writer_of_the_other_version_left_is_taken_in(tmp_path):
    killed = WRITE.replace("writer.close()", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(AssertionError):
        old(killed, tmp_path, 0, 30)
    writer = Writer(tmp_path)
    assert writer.flush()
    writer.close()
    assert old(READ, tmp_path) == "file 30 30 30 False"
