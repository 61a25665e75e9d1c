"""What the tests that try to make the log lose a row share: crews of writers, an owner in its own process, and the count."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from log_samples import environment, run

from router.log import open_log

EAGER = """
    import router.log.compaction as compaction, router.log.owner as owner, router.log.turns as turns
    compact_when_worth_it = compaction.compact
    owner.compact = turns.compact = lambda *args, **kwargs: compact_when_worth_it(*args, **(kwargs | {"min_spools": 1}))
"""
"""Checkpoints and archives whenever it can, as a log of years does now and then: a kill is to meet it at that."""

CREW = """
    import os, random, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer

    data, acks, names, rate, seconds, turns, chars, seed, durability = sys.argv[1:]
    data, rate, seconds, turns, chars = Path(data), float(rate), float(seconds), turns == "1", int(chars)
    OLD = 90 * 86_400

    def work(name):
        # One write() says that log() has returned True: what a kill leaves behind is a whole line or none.
        ack = os.open(Path(acks) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        rng, writer, n = random.Random(f"{seed} {name}"), Writer(data, turns=turns, durability=durability), 0
        begun = time.monotonic()
        while not seconds or time.monotonic() < begun + seconds:
            text = f"{name} {n} " + "x" * (rng.randrange(chars) if rng.random() < 0.2 else 0)
            made = decision(n - (OLD if name.startswith("old") else 0), prompt=text, session_id=name)
            if writer.log(made):
                os.write(ack, f"{made.id} {time.monotonic_ns()}\\n".encode())
            else:
                os.write(ack, b"refused\\n")
            n += 1
            time.sleep(max(begun + n / rate - time.monotonic(), 0))
        os.write(ack, b"done\\n")
        writer.close()

    pids = []
    for name in names.split(","):
        pid = os.fork()
        if pid == 0:
            try:
                work(name)
            finally:
                sys.stderr.flush()
                os._exit(1 if sys.exc_info()[0] else 0)
        pids.append(pid)
    print(*pids, flush=True)
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    print(*codes, flush=True)
"""
"""Writers by name; what "old..." writes was decided 90 days earlier. They are forked from one process that has no log open, for that starts eight in half a second."""

OWNER = """
    import sys, threading, time
    from pathlib import Path
    from router.log import Owner
    owner = Owner(Path(sys.argv[1]), checkpoint_s=float(sys.argv[2]))

    def answer(query):
        cursor = owner.cursor()
        if cursor is None:
            return "none"
        try:
            return cursor.execute(query).fetchone()[0]
        finally:
            cursor.close()

    def watch():
        last = None
        while True:
            status = owner.status()
            now = f"{status.state} {status.error or ''}".strip()
            if now != last:
                last = now
                print(now, flush=True)
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    owner.start()
    for line in sys.stdin:
        print("=", answer(line.strip()), flush=True)
    owner.stop()
"""
"""Owns as the dashboard does: prints each change of its state, answers queries through its own cursor."""

MORTAL = """
    import ctypes, os, sys
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # to override modes, to read in spite of them
            if libc.prctl(24, capability, 0, 0, 0):
                print("immune")
                sys.exit()
    os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


def run_mortal(script: str, *args: object) -> str:
    """Run a script as somebody whom file modes bind, which root is not; skips the test where that cannot be had."""
    out = run(MORTAL, textwrap.dedent(script), *args)
    if out == "immune\n":
        pytest.skip("root that cannot give up its right to override file modes")
    return out


def sizes(short: int, full: int, *, seconds: int = 1800) -> Any:
    """Parametrise a test by one number: small by default, the promised one under ``pytest -m soak``."""
    long_run = (
        pytest.mark.soak,
        pytest.mark.timeout(seconds),
        pytest.mark.skipif(
            "'soak' not in (config.getoption('-m') or '')", reason="a long run: pytest -m soak"
        ),
    )
    return pytest.mark.parametrize("size", [short, pytest.param(full, marks=long_run)])


def until(check: Callable[[], object], seconds: float = 30.0, what: str = "it") -> float:
    """Seconds until a check holds; fails when it does not in time."""
    begun = time.monotonic()
    while not check():
        assert time.monotonic() - begun < seconds, f"{what} took more than {seconds:.0f} s"
        time.sleep(0.01)
    return time.monotonic() - begun


class Target:
    """A process that we or one of ours started. Its number may be another's once it has ended; its descriptor is not."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            elif self._pid:
                os.kill(self._pid, number)

    def kill(self) -> None:
        """SIGKILL, once."""
        self.signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Forget it."""
        fd, self._fd, self._pid = self._fd, -1, 0
        if fd >= 0:
            os.close(fd)


@dataclass
class Crew:
    """Running writers by name."""

    process: subprocess.Popen[str]
    acks: Path
    errors: Path
    targets: dict[str, Target]

    def acknowledged(self) -> set[str]:
        """Ids whose ``log()`` returned True."""
        return {line.split()[0] for line in self._lines()} - {"done", "refused"}

    def acknowledged_by(self, name: str) -> list[tuple[str, int]]:
        """The same of one writer, oldest first, and when that was (ns)."""
        found = [line.split() for line in self._lines([name]) if line not in ("done", "refused")]
        return [(id, int(when)) for id, when in found]

    def refused(self) -> int:
        """How often ``log()`` returned False."""
        return self._lines().count("refused")

    def all_began(self) -> bool:
        """Whether each writer has logged."""
        return all((self.acks / name).exists() and (self.acks / name).stat().st_size for name in self.targets)

    def all_done(self) -> bool:
        """Whether each writer has logged its last."""
        return all(_end_of(self.acks / name) == b"done\n" for name in self.targets)

    def end(self, seconds: float = 60.0) -> list[int]:
        """Wait until they have ended; their exit codes."""
        assert self.process.stdout is not None
        until(lambda: self.process.poll() is not None, seconds, "the end of the writers")
        codes = [int(code) for code in self.process.stdout.read().split()]
        self.process.stdout.close()
        return codes

    def kill(self) -> None:
        """SIGKILL to every writer."""
        for target in self.targets.values():
            target.kill()

    def terminate(self) -> None:
        """SIGTERM to every writer."""
        for target in self.targets.values():
            target.signal(signal.SIGTERM)

    def said(self) -> str:
        """What they printed on standard error."""
        return self.errors.read_text()

    def _lines(self, names: Iterable[str] | None = None) -> list[str]:
        return [
            line
            for name in (self.targets if names is None else names)
            if (self.acks / name).exists()
            for line in (self.acks / name).read_text().splitlines()
        ]


def _end_of(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(-5, os.SEEK_END)
            return file.read()
    except OSError:
        return b""


@contextlib.contextmanager
def crew(
    data: Path,
    scratch: Path,
    names: list[str],
    *,
    rate: float = 200.0,
    seconds: float = 0.0,
    turns: bool = True,
    chars: int = 1,
    seed: object = 0,
    eager: bool = False,
    durability: str = "process",
) -> Iterator[Crew]:
    """Writers that log ``rate`` decisions a second each, for ``seconds`` or until they are killed."""
    script = textwrap.dedent(EAGER if eager else "") + textwrap.dedent(CREW)
    acks = scratch / "acks"
    acks.mkdir(exist_ok=True)
    errors = scratch / f"stderr-{names[0]}"
    with open(errors, "w") as said:
        process = subprocess.Popen(
            [
                sys.executable, "-c", script, data, acks, ",".join(names), str(rate), str(seconds), str(int(turns)),
                str(chars), str(seed), durability,
            ],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment(),
        )  # fmt: skip
    assert process.stdout is not None
    found = Crew(process, acks, errors, {})
    try:
        pids = process.stdout.readline().split()
        found.targets = {name: Target(int(pid)) for name, pid in zip(names, pids, strict=True)}
        yield found
    finally:
        found.kill()
        if not process.stdout.closed:
            process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()


@dataclass
class OwnerProcess:
    """An owner in a process of its own. ``states`` are those it has printed so far."""

    process: subprocess.Popen[str]
    target: Target
    states: list[str] = field(default_factory=list)

    def owns(self) -> None:
        """Wait until it owns the log."""
        while "owning" not in self.states:
            self._take(self._line())

    def ask(self, query: str) -> str:
        """The first value of a query, through its own cursor; "none" while it owns nothing."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(query.split()) + "\n")
        self.process.stdin.flush()
        while True:
            line = self._line()
            if line.startswith("= "):
                return line[2:]
            self._take(line)

    def count(self) -> int:
        """Number of decisions that its dashboard would show; -1 while it owns nothing."""
        answer = self.ask("SELECT count(*) FROM decisions")
        return -1 if answer == "none" else int(answer)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, *, kill: bool = False) -> list[str]:
        """Stop it as Ctrl+C on the dashboard does, or kill it; every state it had."""
        if kill:
            self.process.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        for line in self.process.stdout:
            self._take(line.strip())
        self.process.stdout.close()
        self.process.wait(30)
        return self.states

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the owner ended with {self.process.wait(10)}"
        return line.strip()

    def _take(self, line: str) -> None:
        if line and not line.startswith("= "):
            self.states.append(line)


@contextlib.contextmanager
def owner_process(data: Path, *, eager: bool = False) -> Iterator[OwnerProcess]:
    """An owner that stays, as the dashboard's."""
    script = textwrap.dedent(EAGER if eager else "") + textwrap.dedent(OWNER)
    process = subprocess.Popen(
        [sys.executable, "-c", script, data, "0.1" if eager else "60"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    target = Target(process.pid)
    try:
        yield OwnerProcess(process, target)
    finally:
        target.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


@dataclass(frozen=True)
class Count:
    """What the log holds at the end: ids, each as often as it has a row, and the reasons of rejects."""

    ids: Counter[str]
    rejects: Counter[str]
    drops: int

    @property
    def twice(self) -> list[str]:
        """Ids with more than one row."""
        return [x for x, n in self.ids.items() if n > 1]


def counted(data: Path, *, mended: bool = False) -> Count:
    """Count a log that nobody owns; it has to open as a file, with everything in it.

    ``mended``: it may say that its database was damaged, and is whole again.
    """
    with open_log(data, wait_s=20) as log:
        fine = not log.note or (mended and log.note.count("No decision is lost"))
        assert log.mode == "file" and fine, (log.mode, log.note, log.holder)
        assert log.backlog_bytes() == 0, log.backlog_bytes()
        ids = Counter(x for (x,) in log.rows("SELECT CAST(id AS VARCHAR) FROM decisions"))
        rejects = Counter(x for (x,) in log.rows("SELECT reason FROM rejects"))
        drops = int(log.rows("SELECT coalesce(sum(n), 0) FROM drops")[0][0])
        (rolled,) = log.rows("SELECT coalesce(sum(n), 0) FROM hourly")[0]
        assert int(rolled) == ids.total(), (rolled, ids.total())
        return Count(ids, rejects, drops)
