"""Durability ``async`` and ``power``: what is promised when, how processes end, and that nobody waits."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from faulty_system import BlockedSystem, FullDisk
from log_samples import decision, environment, run, start

from router import Policy, Router
from router.errors import ConfigurationError
from router.log.record import fault
from router.log.spool import Spool
from router.log.writer import Writer


def prompts(data: Path) -> list[str]:
    """Prompts of the whole decisions in the spools."""
    found = []
    for path in sorted((data / "spool").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            assert fault(line) is None
            record = json.loads(line)
            if record["kind"] == "decision":
                found.append(record["prompt"])
    return found


def comes_true(check, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.005)
    return False


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


# --- async ---


def test_async_writes_by_itself_and_in_order(tmp_path):
    spool = Spool(tmp_path, durability="async")
    assert all(spool.append(decision(n)) for n in range(500))
    assert comes_true(lambda: spool.written == 500)
    assert prompts(tmp_path) == [f"prompt number {n}" for n in range(500)]
    assert spool.queue_bytes == 0
    spool.close()


def test_async_goes_on_after_close(tmp_path):
    spool = Spool(tmp_path, durability="async")
    for number in range(3):
        spool.append(decision(number))
        spool.close()
        assert len(prompts(tmp_path)) == number + 1
    spool.append(decision(3))
    assert comes_true(lambda: len(prompts(tmp_path)) == 4)
    spool.close()
    assert comes_true(lambda: not threads("routescope-queue"))


def test_async_never_waits_for_a_disk_that_does_not_answer_and_keeps_within_its_bytes(tmp_path, caplog):
    limit = 1_000_000
    system = BlockedSystem()
    spool = Spool(tmp_path, durability="async", queue_bytes=limit, system=system)
    samples = [decision(n, prompt=f"{n} " + "x" * (n % 3_000)) for n in range(300)]
    spool.append(samples[0])
    assert system.entered.wait(10)
    tracemalloc.start()
    acknowledged = 1
    for round_ in range(10):
        for number, sample in enumerate(samples):
            made = decision(number, prompt=f"{round_} {sample.prompt}")  # nobody else holds it
            acknowledged += spool.append(made)
            assert spool.queue_bytes <= limit
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < limit * 1.2
    assert spool.written == 0, "all that happened while the first write was stuck"
    assert spool.dropped["queue full"] == 3_001 - acknowledged > 0
    assert len(caplog.records) == 1
    system.gate.set()
    assert spool.flush()
    assert spool.written == acknowledged == len(prompts(tmp_path))
    spool.append(decision(0))
    spool.close()
    text = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("*.jsonl"))
    assert sum(json.loads(x)["n"] for x in text.splitlines() if b'"kind":"drop"' in x) == 3_001 - acknowledged


def test_async_keeps_what_a_full_disk_refuses_until_it_has_room(tmp_path):
    disk = FullDisk(is_full=True)
    spool = Spool(tmp_path, durability="async", system=disk)
    assert all(spool.append(decision(n)) for n in range(50))
    assert not spool.flush()
    assert (spool.written, sum(spool.dropped.values())) == (0, 0)
    disk.is_full = False
    assert comes_true(lambda: spool.written == 50), "without another call"
    assert prompts(tmp_path) == [f"prompt number {n}" for n in range(50)]
    disk.is_full = True
    spool.append(decision(50))
    spool.close()
    assert dict(spool.dropped) == {"No space left on device": 1}


def test_async_keeps_a_record_as_it_was_when_it_was_logged(tmp_path):
    system = BlockedSystem()
    spool = Spool(tmp_path, durability="async", system=system)
    spool.append(decision(0))
    assert system.entered.wait(10)
    extra = {"a": 1}
    spool.append(decision(1, extra=extra))
    extra["a"] = 2
    extra["prompt"] = "of somebody else"
    system.gate.set()
    spool.close()
    (line,) = [
        x for x in next((tmp_path / "spool").glob("*.jsonl")).read_bytes().splitlines() if b"extra" in x
    ]
    assert json.loads(line)["extra"] == {"a": 1}


def test_async_takes_records_from_many_tasks_and_threads(tmp_path):
    spool = Spool(tmp_path, durability="async")

    async def task(number: int) -> None:
        for step in range(20):
            assert spool.append(decision(number * 100 + step))
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(task(n) for n in range(20)))

    others = [
        threading.Thread(target=lambda n=n: [spool.append(decision(n * 100 + s)) for s in range(100)])
        for n in range(100, 104)
    ]
    for thread in others:
        thread.start()
    asyncio.run(main())
    for thread in others:
        thread.join()
    spool.close()
    assert len(set(prompts(tmp_path))) == spool.written == 800


LOGS = """
    import os, sys
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    writer = Writer(Path(sys.argv[1]), durability=sys.argv[2], turns=False)
    for n in range(int(sys.argv[3])):
        assert writer.log(decision(n))
        os.write(1, b"%d\\n" % n)
"""


@pytest.mark.parametrize("durability", ["async", "power"])
def test_a_script_that_ends_without_close_loses_nothing(tmp_path, durability):
    run(LOGS, tmp_path, durability, 200)
    assert len(prompts(tmp_path)) == 200


@pytest.mark.parametrize("durability", ["process", "async", "power"])
@pytest.mark.parametrize("after", [1, 37, 400])
def test_sigterm_ends_the_process_as_ever_and_every_acknowledged_decision_is_there(
    tmp_path, durability, after
):
    process = start(LOGS, tmp_path, durability, 10**9)
    acknowledged = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    acknowledged += process.stdout.read().split()
    assert process.wait(20) == -signal.SIGTERM
    assert time.monotonic() - began < 10
    process.stdout.close()
    written = set(prompts(tmp_path))
    assert {f"prompt number {int(n)}" for n in acknowledged} <= written
    assert len(written) <= len(acknowledged) + 1


STUCK = """
    import sys, time
    from pathlib import Path
    from faulty_system import BlockedSystem
    from log_samples import decision
    from router.log.spool import Spool
    system = BlockedSystem()
    spool = Spool(Path(sys.argv[1]), durability="async", system=system)
    spool.append(decision(0))
    assert system.entered.wait(20)
    print("stuck", flush=True)
    time.sleep(60)
"""


def test_sigterm_ends_a_process_whose_disk_does_not_answer(tmp_path):
    process = start(STUCK, tmp_path)
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()


OWN_HANDLER = """
    import signal, sys, threading
    from pathlib import Path
    from log_samples import decision
    from router.log.spool import Spool

    def mine(number, frame):
        print("mine", flush=True)
        sys.exit(3)

    signal.signal(signal.SIGTERM, mine)
    spool = Spool(Path(sys.argv[1]), durability="async")
    spool.append(decision(0))
    assert signal.getsignal(signal.SIGTERM) is mine
    print("ready", flush=True)
    threading.Event().wait(60)
"""


def test_a_handler_of_the_users_own_stays_and_the_exit_flushes(tmp_path):
    process = start(OWN_HANDLER, tmp_path)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "mine\n"
    assert process.wait(20) == 3
    process.stdout.close()
    assert len(prompts(tmp_path)) == 1


SERVER = """
    import socket, sys
    from pathlib import Path
    import uvicorn
    from log_samples import decision
    from router.log.writer import Writer
    writer = Writer(Path(sys.argv[1]), durability="async", turns=False)
    if sys.argv[2] == "before":
        writer.log(decision(1000))

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    writer.log(decision(1001))
                    if sys.argv[2] == "inside":
                        writer.close()   # its handlers came first, and it ends by the signal, without exit hooks
                    return
        writer.log(decision(int(scope["path"][1:])))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[sock])
"""


@pytest.mark.parametrize("first_log", ["before", "inside"])
def test_a_server_with_handlers_of_its_own_stops_in_its_own_way_and_loses_nothing(tmp_path, first_log):
    pytest.importorskip("uvicorn")
    import http.client

    process = start(SERVER, tmp_path, first_log)
    port = int(process.stdout.readline())

    def answers() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/0")
            return connection.getresponse().read() == b"ok"
        except OSError:
            return False
        finally:
            connection.close()

    assert comes_true(answers)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM  # uvicorn raises the signal again after its shutdown
    process.stdout.close()
    expected = {"prompt number 0", "prompt number 1001"} | (
        {"prompt number 1000"} if first_log == "before" else set()
    )
    assert set(prompts(tmp_path)) == expected


HANDLERS = """
    import signal, sys, threading
    from pathlib import Path
    from log_samples import decision
    from router.log.spool import Spool
    spool = Spool(Path(sys.argv[1]), durability=sys.argv[2])
    thread = threading.Thread(target=lambda: spool.append(decision(0)))
    thread.start()
    thread.join()
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    spool.append(decision(1))
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


@pytest.mark.parametrize(("durability", "untouched"), [("process", True), ("async", False), ("power", True)])
def test_a_handler_is_set_only_where_something_waits_in_memory_and_by_the_main_thread(
    tmp_path, durability, untouched
):
    assert run(HANDLERS, tmp_path, durability).split() == ["True", str(untouched)]


FORKS = """
    import os, sys
    from pathlib import Path
    from faulty_system import BlockedSystem
    from log_samples import decision
    from router.log.spool import Spool
    system = BlockedSystem()
    spool = Spool(Path(sys.argv[1]), durability=sys.argv[2], system=system)
    spool.append(decision(0)) if sys.argv[2] == "async" else None
    if sys.argv[2] == "async":
        assert system.entered.wait(20)
        spool.append(decision(1))      # waits behind the first, in the parent alone
    child = os.fork()
    if child == 0:
        system.gate.set()
        assert spool.queue_bytes == 0
        assert spool.append(decision(100))
        assert spool.flush()
        os._exit(0 if spool.written == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    system.gate.set()
    assert spool.append(decision(2))
    spool.close()
    print(spool.written)
"""


@pytest.mark.parametrize(("durability", "mine"), [("async", 3), ("power", 1)])
def test_a_forked_child_starts_empty_with_a_thread_of_its_own(tmp_path, durability, mine):
    assert int(run(FORKS, tmp_path, durability)) == mine
    written = prompts(tmp_path)
    assert len(written) == len(set(written)) == mine + 1


WORKERS = """
    import multiprocessing, sys
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer

    writer = Writer(Path(sys.argv[1]), durability="async", turns=False)

    def work(number):
        for n in range(5):
            assert writer.log(decision(number * 10 + n))

    if __name__ == "__main__":
        writer.log(decision(1000))
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=work, args=(n,)) for n in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
            assert worker.exitcode == 0
"""


def test_workers_that_end_without_exit_hooks_leave_nothing_in_memory(tmp_path):
    run(WORKERS, tmp_path)
    assert len(set(prompts(tmp_path))) == 16


LATE = """
    import atexit, sys
    from pathlib import Path
    from log_samples import decision
    atexit.register(lambda: spool.append(decision(1)))   # runs after the log's own exit hook
    from router.log.spool import Spool
    spool = Spool(Path(sys.argv[1]), durability="async")
    spool.append(decision(0))
"""


def test_what_is_logged_by_an_exit_hook_is_written(tmp_path):
    run(LATE, tmp_path)
    assert len(prompts(tmp_path)) == 2


def test_rows_of_an_async_router_reach_the_database_without_close(tmp_path):
    from test_writer import ingested

    writer = Writer(tmp_path, durability="async")
    for number in range(20):
        writer.log(decision(number))
        time.sleep(0.03)  # spread over several rounds of the queue, and up to a turn
    assert comes_true(lambda: ingested(tmp_path))
    assert comes_true(lambda: len(prompts(tmp_path)) == 20)
    writer.close()


# --- power ---


class Counting:
    """``os``, with the files that were synced."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.error: OSError | None = None

    def __getattr__(self, name: str):
        return getattr(os, name)

    def fdatasync(self, fd: int) -> None:
        if self.error is not None:
            raise self.error
        self.synced.append(os.fstat(fd).st_ino)
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        self.synced.append(os.fstat(fd).st_ino)
        os.fsync(fd)


def test_power_syncs_by_itself_file_and_folders(tmp_path):
    system = Counting()
    spool = Spool(tmp_path / "data", durability="power", system=system)
    assert spool.synced.last_at is None
    spool.append(decision(0))
    assert comes_true(lambda: spool.synced.records == 1)
    paths = (spool.path, spool.path.parent, spool.path.parent.parent)
    assert {path.stat().st_ino for path in paths} <= set(system.synced)
    assert spool.synced.last_at is not None
    spool.close()
    assert comes_true(lambda: not threads("routescope-sync"))


def test_power_syncs_files_that_were_rolled(tmp_path):
    system = Counting()
    spool = Spool(tmp_path, durability="power", roll_bytes=3_000, system=system)
    for number in range(30):
        spool.append(decision(number))
    spool.close()
    assert spool.synced.records == 30
    files = list((tmp_path / "spool").glob("*.jsonl"))
    assert len(files) > 3
    assert {path.stat().st_ino for path in files} <= set(system.synced)


def test_power_does_not_hold_up_writing_while_the_disk_syncs(tmp_path):
    system = BlockedSystem("fdatasync")
    spool = Spool(tmp_path, durability="power", system=system)
    spool.append(decision(0))
    assert system.entered.wait(10)
    assert all(spool.append(decision(n)) for n in range(1, 100)), (
        "and each is in the file when append returns"
    )
    assert len(prompts(tmp_path)) == spool.written == 100
    assert spool.synced.records == 0
    system.gate.set()
    assert comes_true(lambda: spool.synced.records == 100)
    spool.close()


def test_power_says_once_that_syncing_fails_counts_it_and_goes_on(tmp_path, caplog):
    system = Counting()
    system.error = OSError(5, "Input/output error")
    spool = Spool(tmp_path, durability="power", system=system)
    with caplog.at_level(logging.ERROR, "routescope"):
        spool.append(decision(0))
        assert comes_true(lambda: spool.synced.failures > 0)
        spool.append(decision(1))
        assert comes_true(lambda: spool.synced.failures > 1)
    assert len(caplog.records) == 1
    assert (spool.synced.records, spool.synced.error) == (0, "Input/output error")
    system.error = None
    spool.append(decision(2))
    assert comes_true(lambda: spool.synced.records == 3)
    spool.close()


# --- where it is set ---


def test_the_policy_sets_durability_and_an_argument_wins(tmp_path):
    text = (
        Policy.preset("seed").to_toml().replace("[[labels]]", '[log]\ndurability = "power"\n\n[[labels]]', 1)
    )
    policy = Policy.from_toml(text)
    with Router(policy, data=tmp_path / "a") as client:
        assert client._writer.spool.durability == "power"
    with Router(policy, data=tmp_path / "b", durability="async") as client:
        assert client._writer.spool.durability == "async"


@pytest.mark.parametrize("make", [Spool, Writer], ids=["spool", "writer"])
def test_a_durability_that_does_not_exist_is_refused_with_those_that_do(tmp_path, make):
    with pytest.raises(ConfigurationError, match="found 'fsync', expected one of process, async, power"):
        make(tmp_path, durability="fsync")


def test_nothing_of_all_this_is_loaded_or_started_without_a_log():
    script = (
        "import sys, threading; from router import Policy, Router; Router(Policy.preset('seed'), log=False); "
        + ("print('router.log.queued' in sys.modules, threading.active_count())")
    )
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True,
                          env=environment(), timeout=60)  # fmt: skip
    assert done.stdout.split() == ["False", "1"]
