"""The day's spend of a data folder, in one small file that every process with a cap changes under a lock.

The file is replaced in one step. What a process holds when it dies is given back by the next one that looks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.errors import SpendCapError

if TYPE_CHECKING:
    pass

FILE = "spend.json"
LOCK_SECONDS = 10.0
"""How long a call waits for the file at most; whoever holds it needs a few milliseconds."""

ELSEWHERE_SECONDS = 3_600.0
"""What another machine holds is given back after this long: nobody here can see whether its process lives."""

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Held:
    """What one call may cost at most, and the process that made it."""

    usd: Decimal
    host: str
    pid: int
    born: str
    at: float

    def is_alive(self, now: float) -> bool:
        """Whether its process still runs; of another machine's, whether the call can still be under way."""
        if self.host != socket.gethostname():
            return now - self.at < ELSEWHERE_SECONDS
        return _born(self.pid) == self.born


@dataclass(frozen=True)
class Day:
    """A day's sum (UTC).

    Attributes
    ----------
    spent_usd : of ended calls; ``assumed_usd`` of it are calls without a known cost, counted as the most they could be.
    held : calls under way, by decision.
    n_lost, lost_usd : calls whose process died before their end, and the most they can have cost. Not in ``spent_usd``.
    """

    day: date
    spent_usd: Decimal = _ZERO
    assumed_usd: Decimal = _ZERO
    n: int = 0
    held: Mapping[str, Held] = field(default_factory=dict)
    n_lost: int = 0
    lost_usd: Decimal = _ZERO

    @property
    def held_usd(self) -> Decimal:
        """The most that calls under way can cost together."""
        return sum((held.usd for held in self.held.values()), _ZERO)


class DayLedger:
    """The day's sum of a data folder, shared by all processes that have a cap."""

    def __init__(self, data: Path, *, clock: Any = time.time) -> None:
        self.path = Path(data) / FILE
        self._clock = clock

    def read(self) -> Day:
        """The sum of today, without those whose process died. Changes nothing.

        Raises
        ------
        SpendCapError
            The file cannot be read or is damaged.
        """
        return self._living(self._load())

    def hold(self, key: str, usd: Decimal, cap: Decimal, wait_s: float = LOCK_SECONDS) -> None:
        """Hold what a call can cost at most; more for one key adds up.

        Raises
        ------
        SpendCapError
            The day's sum, calls under way included, would pass ``cap``; or the file cannot be used.
        """
        with self._alone(wait_s):
            day = self._living(self._load())
            taken = day.spent_usd + day.held_usd
            if taken + usd > cap:
                raise SpendCapError(
                    f"today's cap of {dollars(cap)} leaves {dollars(max(cap - taken, _ZERO))}, and this call could cost {dollars(usd)} "
                    f"(spent {dollars(day.spent_usd)}, under way {dollars(day.held_usd)}, {day.day} UTC). "
                    "Lower max_tokens, raise per_day_usd in the policy's [spend] table, or wait for the next day."
                )
            before = day.held[key].usd if key in day.held else _ZERO
            mine = Held(before + usd, socket.gethostname(), os.getpid(), _born(os.getpid()), self._clock())
            self._store(replace(day, held={**day.held, key: mine}))

    def settle(
        self, key: str, cost: Decimal, assumed: Decimal = _ZERO, wait_s: float = LOCK_SECONDS, *, n: int = 1
    ) -> None:
        """Count what ``n`` calls cost; ``assumed`` of it is not known and stands for the most it could be. Its hold ends."""
        with self._alone(wait_s):
            day = self._living(self._load())
            self._store(
                replace(
                    day,
                    held={name: held for name, held in day.held.items() if name != key},
                    spent_usd=day.spent_usd + cost,
                    assumed_usd=day.assumed_usd + assumed,
                    n=day.n + n,
                )
            )

    @contextlib.contextmanager
    def _alone(self, wait_s: float) -> Iterator[None]:
        from router.log.forks import no_fork

        wait_s = min(wait_s, LOCK_SECONDS)
        until = time.monotonic() + wait_s
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                with no_fork():  # a child that is forked while the file is locked would keep the lock
                    fd = self._locked()
                    if fd is not None:
                        try:
                            yield
                        finally:
                            os.close(fd)
                        return
                if time.monotonic() > until:
                    raise SpendCapError(
                        f"{self.path} was locked by another process for {wait_s:.3g} s; the call was not made, "
                        "because its cap could not be kept. Try again."
                    )
                time.sleep(0.001)
        except OSError as error:
            raise SpendCapError(
                f"{self.path} cannot be used: {error.strerror or type(error).__name__}; the call was not made, because its "
                "cap could not be kept. Make the folder writable, or take the cap away."
            ) from None

    def _locked(self) -> int | None:
        """Descriptor of the locked file; None while another holds it, or has just put a new one in its place."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _load(self) -> Day:
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Day(today)
        except OSError as error:
            raise SpendCapError(f"{self.path} cannot be read: {error.strerror}") from None
        if not content:
            return Day(today)
        try:
            found = _parsed(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
            raise SpendCapError(
                f"{self.path} is damaged; the call was not made, because its cap could not be kept. "
                "Remove the file to count today from $0."
            ) from None
        # A clock that was set back must not give the day's money out twice. Calls under way go into the new day.
        return Day(today, held=found.held) if today > found.day else found

    def _living(self, day: Day) -> Day:
        now = self._clock()
        dead = {key: held for key, held in day.held.items() if not held.is_alive(now)}
        if not dead:
            return day
        return replace(
            day,
            held={key: held for key, held in day.held.items() if key not in dead},
            n_lost=day.n_lost + len(dead),
            lost_usd=day.lost_usd + sum((held.usd for held in dead.values()), _ZERO),
        )

    def _store(self, day: Day) -> None:
        from router.log.files import write_whole

        held = {key: [str(x.usd), x.host, x.pid, x.born, x.at] for key, x in day.held.items()}
        document = {
            "day": day.day.isoformat(),
            "spent_usd": str(day.spent_usd),
            "assumed_usd": str(day.assumed_usd),
            "n": day.n,
            "held": held,
            "n_lost": day.n_lost,
            "lost_usd": str(day.lost_usd),
        }
        # Not waited for on the disk (20 ms a call, measured): a killed process loses nothing, a power cut the last changes.
        write_whole(self.path, json.dumps(document).encode(), durable=False)


def _parsed(raw: Any) -> Day:
    held = {
        key: Held(_amount(x[0]), str(x[1]), int(x[2]), str(x[3]), float(x[4]))
        for key, x in raw["held"].items()
    }
    return Day(
        date.fromisoformat(raw["day"]),
        _amount(raw["spent_usd"]),
        _amount(raw["assumed_usd"]),
        int(raw["n"]),
        held,
        int(raw["n_lost"]),
        _amount(raw["lost_usd"]),
    )


def _amount(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite() or value < 0:
        raise ValueError(text)
    return value


def _born(pid: int) -> str:
    """When a process started, as the system counts it; "" when it does not run. A number alone may be another's by now."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    except (OSError, IndexError):
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "running"


def dollars(value: Decimal) -> str:
    """An amount with every digit that counts."""
    return f"${value.normalize():f}"
