"""A killed owner's database and write-ahead log, damaged in any way: after recovery every acknowledged row is there, once."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from log_samples import SEED, START, decision
from log_torture import Count, counted, owner_process, sizes, until

from router import open_log
from router.log import Owner
from router.log.owner import take_turn
from router.log.record import feedback_payload, view_payload
from router.log.schema import DATABASE
from router.log.upkeep import request
from router.log.writer import Writer

WAL = DATABASE + ".wal"
CHECKPOINTED, IN_WAL, IN_SPOOL, ARCHIVED = 1500, 700, 100, 350
ARCHIVED_PROMPT = "in a short script"


@dataclass(frozen=True)
class Left:
    """What a killed owner left behind: the folder, an older copy of its database, and the acknowledged ids."""

    data: Path
    older: Path
    ids: frozenset[str]


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> Left:
    data = tmp_path_factory.mktemp("left") / "data"
    ids: set[str] = set()
    writer = Writer(data, turns=False)

    def log(numbers: range) -> None:
        for n in numbers:
            made = decision(n, prompt=f"prompt {n} " + "lorem ipsum " * (n % 50), input_tokens=n)
            assert writer.log(made, SEED)
            ids.add(made.id)
            if n % 100 == 0:
                assert writer.append(feedback_payload(made.id, "right", START))
                assert writer.append(view_payload(f"view {n}", "overview", "days=7", START))

    log(range(CHECKPOINTED // 2))
    assert take_turn(data) is not None
    older = data.with_name("older")
    shutil.copytree(data, older)
    log(range(CHECKPOINTED // 2, CHECKPOINTED))
    for number in range(ARCHIVED // 50):  # by as many short scripts
        script = Writer(data, turns=False)
        for n in range(50):
            made = decision(number * 100 + n, prompt=ARCHIVED_PROMPT)
            assert script.log(made)
            ids.add(made.id)
        script.spool.close()
    request(data, "retention", "days", "1999-01-01T00:00:00")  # erases nothing, and archives
    assert len(list((data / "spool").glob("*.jsonl"))) == 1
    with owner_process(data) as owner:
        owner.owns()
        log(range(CHECKPOINTED, CHECKPOINTED + IN_WAL))
        until(lambda: owner.count() == ARCHIVED + CHECKPOINTED + IN_WAL)
        owner.end(kill=True)
    assert (data / WAL).stat().st_size > 10_000
    log(range(CHECKPOINTED + IN_WAL, CHECKPOINTED + IN_WAL + IN_SPOOL))
    writer.spool.close()
    return Left(data, older, frozenset(ids))


Damage = Callable[[random.Random, Path, Left], None]


def at_random(rng: random.Random, path: Path) -> tuple[bytearray, int]:
    found = bytearray(path.read_bytes())
    return found, rng.randrange(len(found))


def cut(rng: random.Random, path: Path) -> None:
    found, at = at_random(rng, path)
    path.write_bytes(found[:at])


def cut_a_little(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -rng.randrange(1, 40)])


def flipped(rng: random.Random, path: Path) -> None:
    found, at = at_random(rng, path)
    found[at] ^= 1 << rng.randrange(8)
    path.write_bytes(found)


def zeroed(rng: random.Random, path: Path) -> None:
    found, at = at_random(rng, path)
    found[at : at + 4096] = bytes(len(found[at : at + 4096]))
    path.write_bytes(found)


def grown_by_zeros(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(rng.choice([1, 4096, 300_000])))


def grown_by_garbage(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice([1, 100, 50_000])))


def emptied(rng: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def deleted(rng: random.Random, path: Path) -> None:
    path.unlink()


def made_text(rng: random.Random, path: Path) -> None:
    path.write_bytes(b"not a database\n" * 10_000)


def head_zeroed(rng: random.Random, path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[:12_288] = bytes(12_288)
    path.write_bytes(found)


def in_file(how: Callable[[random.Random, Path], None], name: str) -> Damage:
    def damage(rng: random.Random, data: Path, left: Left) -> None:
        how(rng, data / name)

    damage.__name__ = f"{'log' if name == WAL else 'database'} {how.__name__}"
    return damage


def both_deleted(rng: random.Random, data: Path, left: Left) -> None:
    (data / DATABASE).unlink()
    (data / WAL).unlink()


def an_older_copy(rng: random.Random, data: Path, left: Left) -> None:
    shutil.copy(left.older / DATABASE, data / DATABASE)
    (data / WAL).unlink()


def an_older_copy_under_a_newer_log(rng: random.Random, data: Path, left: Left) -> None:
    shutil.copy(left.older / DATABASE, data / DATABASE)


def both_flipped(rng: random.Random, data: Path, left: Left) -> None:
    flipped(rng, data / DATABASE)
    flipped(rng, data / WAL)


DAMAGES: list[Damage] = [
    *(
        in_file(how, name)
        for how in (cut, flipped, zeroed, deleted, emptied, cut_a_little, grown_by_zeros, grown_by_garbage, made_text)
        for name in (WAL, DATABASE)
    ),
    in_file(head_zeroed, DATABASE), both_deleted, an_older_copy, an_older_copy_under_a_newer_log, both_flipped,
    in_file(flipped, DATABASE), in_file(flipped, WAL), in_file(cut, WAL), in_file(zeroed, DATABASE),
]  # fmt: skip


def read_whole(data: Path) -> tuple[int, int, int]:
    """Every byte of every row is read, which is when a damaged block shows; the log mends itself and is opened again."""
    for _ in range(3):
        try:
            with open_log(data, wait_s=20) as log:
                (chars,) = log.rows(
                    "SELECT sum(length(prompt)) + sum(length(CAST(d AS VARCHAR))) * 0 FROM decisions d"
                )[0]
                ((judged, views),) = log.rows(
                    "SELECT (SELECT count(*) FROM feedback), (SELECT count(DISTINCT name) FROM saved_views)"
                )
                return int(chars), judged, views
        except Exception as error:
            what = error
    raise AssertionError("three openings did not mend it") from what


def by_an_owner(data: Path) -> None:
    owner = Owner(data, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(60), owner.status()
    owner.stop()


def by_a_turn(data: Path) -> None:
    assert take_turn(data) is not None


def by_reading(data: Path) -> None:
    with open_log(data) as log:
        assert log.mode == "file", log.note


EXPECTED = CHECKPOINTED + IN_WAL + IN_SPOOL


@sizes(8, 1000, seconds=7200)
def test_after_any_damage_to_database_and_log_no_acknowledged_row_is_lost_or_doubled(tmp_path, left, size):
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    chars = sum(len(f"prompt {n} " + "lorem ipsum " * (n % 50)) for n in range(EXPECTED))
    chars += ARCHIVED * len(ARCHIVED_PROMPT)
    first = rng.randrange(len(DAMAGES))
    for number in range(first, first + size):
        how, opened = DAMAGES[number % len(DAMAGES)], rng.choice([by_an_owner, by_a_turn, by_reading])
        data = tmp_path / f"data{number}"
        shutil.copytree(left.data, data)
        how(rng, data, left)
        told = f"seed {seed}, number {number}: {how.__name__}, opened {opened.__name__}"
        try:
            opened(data)
            whole = read_whole(data)
            found: Count = counted(data, mended=True)
        except Exception as error:
            raise AssertionError(told) from error
        assert set(found.ids) == left.ids, told
        assert found.twice == [], told
        assert not found.rejects, told
        assert whole == (chars, EXPECTED // 100, EXPECTED // 100), told
        shutil.rmtree(data)


def log_deleted_too(rng: random.Random, data: Path) -> None:
    for name in (DATABASE, WAL):
        (data / name).unlink(missing_ok=True)


def cut_in_place(rng: random.Random, data: Path) -> None:
    with open(data / DATABASE, "r+b") as file:
        file.truncate(rng.randrange(4096, (data / DATABASE).stat().st_size))


def zeroed_in_place(rng: random.Random, data: Path) -> None:
    with open(data / DATABASE, "r+b") as file:
        file.seek(rng.randrange(12_288, (data / DATABASE).stat().st_size))
        file.write(bytes(600_000))


def log_cut_in_place(rng: random.Random, data: Path) -> None:
    if (data / WAL).exists():
        with open(data / WAL, "r+b") as file:
            file.truncate((data / WAL).stat().st_size // 2)


def replaced_by_text(rng: random.Random, data: Path) -> None:
    (data / "new").write_bytes(b"not a database\n" * 1000)
    (data / "new").rename(data / DATABASE)


def lock_deleted(rng: random.Random, data: Path) -> None:
    (data / "owner.lock").unlink()


WHILE_IT_RUNS = [
    log_deleted_too,
    cut_in_place,
    zeroed_in_place,
    log_cut_in_place,
    replaced_by_text,
    lock_deleted,
]


@sizes(2, 2 * len(WHILE_IT_RUNS))
def test_damage_under_a_running_owner_costs_no_acknowledged_row(tmp_path, left, size):
    for number in range(size):
        how = WHILE_IT_RUNS[number % len(WHILE_IT_RUNS)]
        killed = (number + number // len(WHILE_IT_RUNS)) % 2 == 1
        damaged_while_it_runs(tmp_path / f"data{number}", left, how, killed)


def damaged_while_it_runs(
    data: Path, left: Left, how: Callable[[random.Random, Path], None], killed: bool
) -> None:
    ids = set(left.ids)
    shutil.copytree(left.data, data)
    writer = Writer(data, turns=False)

    def log(numbers: range) -> None:
        for n in numbers:
            made = decision(n)
            assert writer.log(made)
            ids.add(made.id)

    with owner_process(data) as owner:
        owner.owns()
        log(range(300))
        until(lambda: owner.count() in (-1, len(ids)), 20)
        how(random.Random(1), data)
        log(range(300, 600))
        owner.ask("SELECT 1")  # it is alive
        owner.end(kill=killed)
    log(range(600, 700))
    writer.spool.close()
    by_an_owner(data)
    read_whole(data)
    found = counted(data, mended=True)
    assert set(found.ids) == ids, (how.__name__, killed)
    assert found.twice == [], (how.__name__, killed)
