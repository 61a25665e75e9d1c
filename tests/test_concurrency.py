"""Many processes, threads and tasks, forks in the middle, locks held by others: every row arrives, once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from log_samples import START, Fixed, decision, environment, run, start
from log_torture import counted, crew, owner_process, sizes, until

from router import AsyncRouter, Policy, Router, open_log
from router.log.owner import take_turn
from router.log.upkeep import request
from router.log.writer import Writer

SEED = Policy.preset("seed")
PACE = {4: (200, 1.0), 16: (500, 30.0)}
"""Decisions a second of each process, and for how many seconds, by the number of processes."""


@sizes(4, 16)
def test_processes_at_full_pace_lose_and_double_nothing(tmp_path, size):
    rate, seconds = PACE[size]
    data, names = tmp_path / "data", [f"w{n}" for n in range(size)]
    with owner_process(data) as owner:
        owner.owns()
        with crew(data, tmp_path, names, rate=rate, seconds=seconds) as writers:
            until(writers.all_done, 10 * seconds + 60, "logging")
            done = time.monotonic()
            acknowledged = writers.acknowledged()
            until(lambda: owner.count() == len(acknowledged), 60, "the last row")
            waited = time.monotonic() - done
            assert writers.end(120) == [0] * size
            assert (writers.refused(), writers.said()) == (0, "")
        assert set(owner.end()) == {"stopped", "waiting", "owning"}
    found = counted(data)
    assert set(found.ids) == acknowledged
    assert found.ids.total() == len(acknowledged)
    assert not found.rejects
    print(
        f"\n{size} processes x {rate}/s x {seconds:.0f} s: {len(acknowledged):,} acknowledged, 0 lost, 0 twice; "
        f"last row visible after {waited:.2f} s, load {os.getloadavg()[0]:.1f}"
    )


FORKS_IN_THE_MIDDLE = """
    import json, os, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    data, rounds = Path(sys.argv[1]), int(sys.argv[2])
    writer, acked, children = Writer(data), [], []

    def log(n):
        made = decision(n, prompt="x" * 3000)
        assert writer.log(made)
        return made.id

    for n in range(rounds):
        for step in range(40):
            acked.append(log(step))
            time.sleep(0.0005)
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            mine = [log(step) for step in range(10)]
            if n % 3 == 0:
                writer.close()
            os.write(into, json.dumps(mine).encode())
            os._exit(0) if n % 3 < 2 else sys.exit(0)
        os.close(into)
        children.append((child, out))
    for child, out in children:
        with open(out) as file:
            acked += json.load(file)
        assert os.waitpid(child, 0)[1] == 0
    writer.close()
    print(json.dumps(acked))
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="macOS does not let threads of its own frameworks survive a fork"
)
@sizes(6, 300, seconds=900)
def test_forks_in_the_middle_of_logging_and_of_turns_lose_and_double_nothing(tmp_path, size):
    acked = json.loads(run(FORKS_IN_THE_MIDDLE, tmp_path, size, timeout=60 + size))
    found = counted(tmp_path)
    assert len(acked) == len(set(acked)) == size * 50
    assert set(found.ids) == set(acked)
    assert found.twice == []
    assert not found.rejects


PREFORK = """
    import json, os, signal, sys, time
    from pathlib import Path
    from log_samples import Fixed
    from router import Policy, Router
    from router.log import Owner
    data, owns = Path(sys.argv[1]), sys.argv[2] == "owner"
    if owns:
        owner = Owner(data)
        owner.start()
        assert owner.wait_ready(60)
    router = Router(Policy.preset("seed"), classifier=Fixed(), data=data)
    acked, workers = [router.route("in the master").id], {}
    while not owns and not (data / "decisions.duckdb").exists():
        time.sleep(0.001)  # its turns have begun

    def serve(into):
        ids, stopping = [], []
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
        inherited = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                     and os.path.exists(f"/proc/self/fd/{fd}")]
        inherited = [x for x in inherited if x.startswith(str(data))]
        while not stopping or len(ids) < 50:
            ids.append(router.route(f"in worker {os.getpid()}").id)
            time.sleep(0.002)
        router.close()
        os.write(into, json.dumps([ids, inherited]).encode())
        os._exit(0)

    for _ in range(4):
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            serve(into)
        os.close(into)
        workers[pid] = out
    time.sleep(0.3)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    begun, fds = time.monotonic(), []
    for pid, out in workers.items():
        with open(out) as file:
            ids, inherited = json.load(file)
        acked += ids
        fds += inherited
        assert os.waitpid(pid, 0)[1] == 0
    took = time.monotonic() - begun
    router.close()
    if owns:
        owner.stop()
    print(json.dumps([acked, fds, took]))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
@pytest.mark.parametrize("master", ["router", "owner"])
def test_workers_of_a_preforking_server_inherit_nothing_of_the_log_and_end_at_once(tmp_path, master):
    acked, inherited, took = json.loads(run(PREFORK, tmp_path, master))
    assert inherited == []
    assert took < 8
    found = counted(tmp_path)
    assert set(found.ids) == set(acked)
    assert found.ids.total() == len(acked)


HALF_DONE = """
    import os, sys
    from pathlib import Path
    from log_samples import decision
    from router.log import Owner
    from router.log.writer import Writer
    data = Path(sys.argv[1])
    owner = Owner(data, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(60)
    writer = Writer(data)
    out, into = os.pipe()

    def log(numbers):
        for n in numbers:
            assert writer.log(decision(n))
        while os.getpid() == parent and owner.status().rows < numbers[-1] + 1:
            pass

    parent = os.getpid()
    log(range(5))
    if os.fork() == 0:
        os.close(into)
        os.read(out, 1)  # until the parent is dead
        log(range(50, 55))
        writer.close()
        print("closed", flush=True)
        os._exit(0)
    os.close(out)
    log(range(5, 50))
    os.kill(parent, 9)
"""


def test_a_worker_whose_parent_owned_the_log_and_was_killed_takes_nothing_in_twice(tmp_path):
    process = start(HALF_DONE, tmp_path)
    try:
        assert process.stdout.read() == "closed\n"
    finally:
        process.wait(30)
        process.stdout.close()
    assert counted(tmp_path).ids.total() == 55
    assert counted(tmp_path).twice == []


READS = """
    import os, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log import open_log
    from router.log.writer import Writer
    writer = Writer(Path(sys.argv[1]), turns=False)

    def log(numbers):
        for n in numbers:
            assert writer.log(decision(n))

    log(range(500))
    with open_log(sys.argv[1]) as reader:
        assert reader.mode == "file"
        out, into = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child:
            log(range(500, 1000))
            reader.refresh()
            os.write(into, b"x")
            os.waitpid(child, 0)
            log(range(1000, 1500))
            reader.refresh()
            print(reader.count())
        else:
            os.read(out, 1)
    if os.getpid() != parent:
        os._exit(0)  # after it left the block, and closed what it inherited
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_child_that_closes_the_log_it_inherited_leaves_the_file_alone(tmp_path):
    assert run(READS, tmp_path).strip() == "1500"
    found = counted(tmp_path)
    assert (found.ids.total(), found.twice) == (1500, [])


WORKERS = """
    import multiprocessing, os, sys
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer

    def work(number):
        global writer
        if "writer" not in globals():
            writer = Writer(Path(sys.argv[1]))
        made = [decision(n) for n in range(number, number + 10)]
        assert all(writer.log(x) for x in made)
        return [x.id for x in made]

    if __name__ == "__main__":
        with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:
            ids = [x for part in pool.imap_unordered(work, range(30)) for x in part]
            pool.close()
            pool.join()
        print(*ids)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_lose_and_double_nothing(tmp_path, method):
    script = tmp_path / "workers.py"  # a spawned worker imports the script by its file
    script.write_text(textwrap.dedent(WORKERS))
    done = subprocess.run(
        [sys.executable, script, tmp_path / "data", method],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    found = counted(tmp_path / "data")
    assert set(found.ids) == set(ids)
    assert found.ids.total() == len(ids) == 300


def test_threads_of_one_router_lose_and_double_nothing(tmp_path):
    ids: list[str] = []
    with Router(SEED, classifier=Fixed(), data=tmp_path) as router:

        def work(number: int) -> None:
            ids.extend(router.route(f"thread {number} prompt {n}").id for n in range(60))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not router.dropped
    found = counted(tmp_path)
    assert len(set(ids)) == 32 * 60
    assert set(found.ids) == set(ids)
    assert found.twice == []


def test_five_hundred_tasks_at_once_lose_and_double_nothing(tmp_path):
    async def work() -> list[str]:
        async with AsyncRouter(SEED, classifier=Fixed(), data=tmp_path) as router:
            made = await asyncio.gather(*(router.route(f"task {n}") for n in range(500)))
            return [x.id for x in made]

    ids = asyncio.run(work())
    found = counted(tmp_path)
    assert len(set(ids)) == 500
    assert set(found.ids) == set(ids)
    assert found.twice == []


SIGNALS = """
    import json, random, signal, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    writer, acked, how, inside = Writer(Path(sys.argv[1])), [], sys.argv[2], False

    class Interrupted(BaseException):
        pass

    def on_alarm(*_):
        global handled
        if not inside:
            return
        handled += 1
        if how == "raises":
            raise Interrupted
        made = decision(0, prompt="from the handler")
        if writer.log(made):
            acked.append(made.id)

    signal.signal(signal.SIGALRM, on_alarm)
    n = handled = 0
    while handled < 150 or len(acked) < 150:
        n += 1
        try:
            inside = True
            if n % 2:  # else each would be stopped while it opens the file that the last one left torn
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 400e-6))
            made = decision(n)
            if writer.log(made):
                acked.append(made.id)
            inside = False
        except Interrupted:
            inside = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    made, until = decision(n + 1), time.monotonic() + 20
    writer.log(made)
    acked.append(made.id)
    while writer._is_due and time.monotonic() < until:
        time.sleep(0.02)
    waits = writer._is_due  # else the thread that takes turns outlived all that
    writer.close()
    print(json.dumps([acked, n + 1, handled, waits]))
"""


@pytest.mark.parametrize("how", ["logs", "raises"])
def test_signals_in_the_middle_of_log_neither_block_it_nor_cost_a_row(tmp_path, how):
    """A handler that logs meets the append that it interrupted; one that raises leaves it half done, as Ctrl+C does."""
    acked, tried, handled, waits = json.loads(run(SIGNALS, tmp_path, how, timeout=60))
    found = counted(tmp_path)
    assert not waits
    assert handled >= 150
    assert set(acked) - set(found.ids) == set()
    assert found.twice == []
    assert not found.rejects
    assert found.ids.total() <= (tried if how == "raises" else len(acked))


HOLDS = """
    import sys, time
    from pathlib import Path
    from router.log.lock import OwnerLock
    lock = OwnerLock(Path(sys.argv[1]))
    while not lock.acquire("turn"):
        time.sleep(0.001)
    print("held", flush=True)
    time.sleep(600)
"""


@sizes(2, 60, seconds=200)
def test_a_lock_held_by_another_process_costs_the_caller_nothing_and_no_row(tmp_path, size):
    data = tmp_path / "data"
    with Router(SEED, classifier=Fixed(), data=data) as router:
        ids = [router.route("before").id]
        router.flush()
        holder = start(HOLDS, data)
        try:
            assert holder.stdout.readline() == "held\n"
            end, slowest = time.monotonic() + size, 0.0
            while time.monotonic() < end:
                begun = time.perf_counter()
                ids.append(router.route("while it is held").id)
                slowest = max(slowest, time.perf_counter() - begun)
                time.sleep(0.002)
            assert slowest < 2
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()
        ids.append(router.route("after").id)
    found = counted(data)
    assert set(found.ids) == set(ids)
    assert found.twice == []


@sizes(2, 60, seconds=200)
def test_commits_that_fail_at_random_lose_and_double_nothing(tmp_path, size):
    """A file-size limit that comes and goes makes the owner's commits fail; the writers are left alone."""
    seed = random.randrange(10**6)
    rng, data = random.Random(seed), tmp_path / "data"
    none = resource.RLIM_INFINITY
    with owner_process(data) as owner:
        owner.owns()
        with crew(
            data, tmp_path, ["w1", "w2"], rate=300, seconds=size, turns=False, chars=3000, seed=seed
        ) as writers:
            until(writers.all_began)
            failures = 0
            while not writers.all_done():
                wal = data / "decisions.duckdb.wal"
                room = (wal.stat().st_size if wal.exists() else 0) + rng.randrange(30_000)
                resource.prlimit(owner.process.pid, resource.RLIMIT_FSIZE, (room, none))
                time.sleep(rng.uniform(0.02, 0.4))
                resource.prlimit(owner.process.pid, resource.RLIMIT_FSIZE, (none, none))
                time.sleep(rng.uniform(0.02, 0.4))
            acknowledged = writers.acknowledged()
            until(lambda: owner.count() == len(acknowledged), 30, f"the last row (seed {seed})")
            assert writers.end() == [0, 0]
        failures = sum(state.startswith("failed") for state in owner.end())
    found = counted(data)
    assert failures, "no commit failed"
    assert acknowledged - set(found.ids) == set(), seed
    assert found.twice == [], seed
    print(f"\nseed {seed}: {failures} failed commits, {len(acknowledged):,} acknowledged, 0 lost, 0 twice")


def test_ten_thousand_sessions_in_one_flush_add_up_to_the_last_one(tmp_path):
    writer = Writer(tmp_path, turns=False)
    for n in range(10_000):
        assert writer.log(decision(n, session_id=f"session {n}", input_tokens=n, output_tokens=2 * n))
    assert take_turn(tmp_path).rows == 10_000
    with open_log(tmp_path) as log:
        (row,) = log.rows(
            "SELECT count(*), count(DISTINCT session_id), sum(input_tokens), sum(output_tokens) FROM decisions"
        )
        (rolled,) = log.rows("SELECT sum(n), sum(input_tokens), sum(output_tokens) FROM hourly")
    total = sum(range(10_000))
    assert row == (10_000, 10_000, total, 2 * total)
    assert rolled == (10_000, total, 2 * total)


@sizes(2, 300, seconds=900)
def test_two_dashboards_eight_writers_readers_and_retention_at_once_add_up(tmp_path, size):
    data, cutoff = tmp_path / "data", (START - timedelta(days=1)).isoformat()
    old, new = [f"old{n}" for n in range(4)], [f"new{n}" for n in range(4)]
    removed, seen, stopping = 0, [], threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        while not stopping.wait(0.2):
            try:
                with open_log(data) as log:
                    seen.append(log.count())
            except BaseException as error:
                failures.append(error)

    with ExitStack() as stack:
        first = stack.enter_context(owner_process(data))
        first.owns()
        second = stack.enter_context(owner_process(data))
        reader = threading.Thread(target=read)
        reader.start()
        with crew(data, tmp_path, [*old, *new], rate=60, seconds=size, turns=size > 2) as writers:
            until(writers.all_began)
            halfway = time.monotonic() + size / 2
            while not writers.all_done():
                removed += request(data, "retention", "days", cutoff).decisions
                if halfway and time.monotonic() > halfway:
                    halfway = 0
                    assert set(first.end()) <= {"stopped", "waiting", "owning", "working"}
                time.sleep(0.1)
            assert writers.end() == [0] * 8
            assert (writers.refused(), writers.said()) == (0, "")
        second.owns()
        removed += request(data, "retention", "days", cutoff).decisions
        stopping.set()
        reader.join()
        assert set(second.end()) <= {"stopped", "waiting", "owning", "working"}
    assert not failures
    assert seen
    kept = {id for name in new for id, _ in writers.acknowledged_by(name)}
    gone = [id for name in old for id, _ in writers.acknowledged_by(name)]
    found = counted(data)
    assert set(found.ids) == kept
    assert found.twice == []
    assert removed == len(gone)
    assert not found.rejects


def test_nothing_of_the_log_is_printed_however_python_was_started(tmp_path):
    query = "SELECT value FROM duckdb_settings() WHERE name = 'enable_progress_bar'"
    script = """
        import sys
        from pathlib import Path
        from router.log.schema import connect
        for path in (None, Path(sys.argv[1]) / "decisions.duckdb"):
            con = connect(path)
            print(con.execute(sys.argv[2]).fetchone()[0])
            con.close()
        """
    assert run(script, tmp_path, query).split() == ["false", "false"]


STALLED = """
    import json, os, sys, threading, time
    from pathlib import Path
    from log_samples import decision
    from router.log.spool import Spool

    class Stalled:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, fd, data):
            gate.wait()
            return os.write(fd, data)

    def resident():
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    gate, acked, refused, longest = threading.Event(), [], 0, 0.0
    gate.set()
    spool = Spool(Path(sys.argv[1]), durability="async", queue_bytes=int(sys.argv[3]), system=Stalled())

    def log(n):
        global refused
        made = decision(n, prompt=f"{n} " + "x" * 10_000)
        if spool.append(made):
            acked.append(made.id)
        else:
            refused += 1

    for n in range(500):
        log(n)
    spool.flush()
    gate.clear()
    before = most = resident()
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        for n in range(200):
            log(n)
        most = max(most, resident())
    stalled = refused
    gate.set()
    spool.flush()
    for n in range(50):
        log(n)
    spool.close()
    print(json.dumps([acked, stalled, refused, sum(spool.dropped.values()), most - before]))
"""
QUEUE_BYTES, ALLOWANCE_BYTES = 8_000_000, 24_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc")
@sizes(1, 60, seconds=300)
def test_memory_beside_a_disk_that_stalls_stays_within_what_is_configured(tmp_path, size):
    out = run(STALLED, tmp_path, size, QUEUE_BYTES, timeout=60 + 2 * size)
    acked, stalled, refused, dropped, growth = json.loads(out)
    assert stalled > 1000  # far more came than the queue holds
    assert refused == stalled == dropped  # and it took on as soon as the disk did
    assert growth < QUEUE_BYTES + ALLOWANCE_BYTES
    found = counted(tmp_path)
    assert set(found.ids) == set(acked)
    assert (found.twice, found.drops) == ([], refused)
    print(
        f"\n{refused:,} refused in {size} s of stall, memory grew by {growth / 1e6:.1f} MB, queue {QUEUE_BYTES / 1e6:.0f} MB"
    )


FULL_SPEED = """
    import json, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    writer, n = Writer(Path(sys.argv[1])), 0

    def resident():
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    begun, before = time.monotonic(), 0
    while time.monotonic() < begun + 1.5 + float(sys.argv[2]):
        for _ in range(100):
            assert writer.log(decision(n, prompt=f"{n} " + "x" * 300))
            n += 1
        if not before and time.monotonic() > begun + 1.5:
            before = resident()  # its thread has loaded DuckDB by now
        time.sleep(0.01)
    growth = resident() - before
    closing = time.monotonic()
    writer.close()
    print(json.dumps([n, growth, time.monotonic() - closing]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc")
@sizes(1, 60, seconds=300)
def test_memory_beside_an_owner_that_is_stuck_does_not_grow(tmp_path, size):
    with owner_process(tmp_path) as owner:
        owner.owns()
        owner.signal(signal.SIGSTOP)
        n, growth, closing = json.loads(run(FULL_SPEED, tmp_path, size, timeout=60 + 2 * size))
        assert growth < ALLOWANCE_BYTES
        assert closing < 8  # it left its rows to the owner, which seems to stay
        owner.signal(signal.SIGCONT)
        until(lambda: owner.count() == n, 60 + 10 * size, "the last row")
        owner.end()
    assert counted(tmp_path).ids.total() == n
    assert counted(tmp_path).twice == []
    print(
        f"\n{n:,} logged beside a stopped owner, memory grew by {growth / 1e6:.1f} MB, close() took {closing:.2f} s"
    )
