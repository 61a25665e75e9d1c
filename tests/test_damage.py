"""Damage to files: every intact record is recovered once, every bad one counted with its place, nothing else is held up."""

from __future__ import annotations

import fcntl
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from log_samples import decision
from log_torture import counted, run_mortal, sizes

from router.log import open_log
from router.log.ingest import ingest_all
from router.log.owner import take_turn
from router.log.record import MARK, MAX_LINE_BYTES, decision_payload, encode
from router.log.schema import DATABASE, connect

LINES = 20
Damage = Callable[[random.Random, bytes], bytes]


def sealed(body: bytes) -> bytes:
    """A line whose checksum fits, whatever is in it; without its newline."""
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:]


def cut(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text))]


def cut_before_newline(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.choice(newlines(text))]


def flipped(rng: random.Random, text: bytes) -> bytes:
    found = bytearray(text)
    for _ in range(rng.choice([1, 1, 3, 30])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def with_garbage(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.randbytes(rng.choice([1, 10, 1000, 100_000])) + text[at:]


def zeroed(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    n = min(rng.choice([1, 100, 512, 4096]), len(text) - at)
    return text[:at] + bytes(n) + text[at + n :]


def removed(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + text[at + rng.choice([1, 100, 4096]) :]


def torn_before_next(rng: random.Random, text: bytes) -> bytes:
    at = rng.choice(newlines(text))
    return text[: at - rng.randrange(1, 200)] + text[at + 1 :]


def garbage_in_line(rng: random.Random, text: bytes) -> bytes:
    at = rng.choice(newlines(text)) + rng.choice([0, 1])
    return (
        text[:at]
        + rng.choice([b"}", b'{"crc":"', b'{"crc":"00000000",', bytes(40), b'"}x{"', b"x" * 900])
        + text[at:]
    )


def doubled_newline(rng: random.Random, text: bytes) -> bytes:
    at = rng.choice(newlines(text))
    return text[:at] + b"\n" * rng.choice([1, 2, 70]) + text[at:]


def no_newline(rng: random.Random, text: bytes) -> bytes:
    at = rng.choice(newlines(text))
    return text[:at] + text[at + 1 :]


def not_utf8(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + b"\xff\xfe\x80\xc3" + text[at:]


def long_line(rng: random.Random, text: bytes) -> bytes:
    at = rng.choice(newlines(text)) + 1
    return text[:at] + b"x" * rng.choice([MAX_LINE_BYTES, 2_000_000]) + b"\n" + text[at:]


def carriage_returns(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + text[at:].replace(b"\n", b"\r\n")


def emptied(rng: random.Random, text: bytes) -> bytes:
    return b""


def all_zeros(rng: random.Random, text: bytes) -> bytes:
    return bytes(rng.choice([1, len(text), 2_500_000]))


def swapped(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


DAMAGES: list[Damage] = [
    cut, cut, cut_before_newline, flipped, flipped, with_garbage, with_garbage, zeroed, zeroed, removed, doubled_newline,
    no_newline, torn_before_next, garbage_in_line, garbage_in_line, not_utf8, long_line, carriage_returns, emptied, all_zeros, swapped,
]  # fmt: skip


def newlines(text: bytes) -> list[int]:
    return [i for i, byte in enumerate(text) if byte == 10]


def judged(text: bytes, known: dict[bytes, str], start: int) -> tuple[list[str], list[tuple[int, int]]]:
    """What is intact in a damaged text, by comparison with what was written: ids, and the spans that are not."""
    ids, bad, at = [], [], start
    for line in text.split(b"\n"):
        if line in known:
            ids.append(known[line])
        elif line:
            done = 0
            for place, whole in sorted((line.find(whole), whole) for whole in known if whole in line):
                ids.append(known[whole])
                if place > done:
                    bad.append((at + done, at + place))
                done = place + len(whole)
            if done < len(line):
                bad.append((at + done, at + len(line)))
        at += len(line) + 1
    return ids, bad


def records(rng: random.Random, number: int) -> dict[bytes, str]:
    """Lines of one spool and their ids, of lengths from 700 bytes to 20 KB."""
    found = {}
    for n in range(LINES):
        made = decision(n, prompt=f"spool {number} line {n} " + "é☃x" * rng.choice([0, 0, 5, 3000]))
        found[encode(decision_payload(made))[:-1]] = made.id
    return found


@sizes(60, 1000)
def test_damage_to_spools_costs_only_the_damaged_records(tmp_path, size):
    """Half of the spools are damaged before they are first read, half behind what was read already."""
    seed = random.randrange(10**6)
    rng, data = random.Random(seed), tmp_path / "data"
    spool = data / "spool"
    spool.mkdir(parents=True)
    heads, tails, known, living = {}, {}, {}, []
    for number in range(size):
        name = f"host-{number}-{1_700_000_000_000 + number}-{number:08x}.jsonl"
        known[name] = records(rng, number)
        lines = [line + b"\n" for line in known[name]]
        read = rng.randrange(LINES) if number % 2 else 0
        heads[name], tails[name] = b"".join(lines[:read]), b"".join(lines[read:])
        (spool / name).write_bytes(heads[name])
        if number % 2:  # its process lives: the spool of one that has ended may be archived
            living.append(open(spool / name, "rb"))  # noqa: SIM115
            fcntl.flock(living[-1], fcntl.LOCK_EX)
    assert take_turn(data) is not None
    done, ids, bad = {}, [], {}
    for number, name in enumerate(known):
        how = DAMAGES[number % len(DAMAGES)]
        tail = how(rng, tails[name])
        done[name] = how.__name__
        (spool / name).write_bytes(heads[name] + tail)
        before = [known[name][line] for line in heads[name].splitlines()]
        after, bad[name] = judged(tail, known[name], len(heads[name]))
        ids += before + after
    for file in living:
        file.close()
    assert take_turn(data) is not None
    found = counted(data)
    assert sorted(found.ids.elements()) == sorted(ids), seed
    with open_log(data) as log:
        rejects = log.rows("SELECT spool, pos FROM rejects ORDER BY ALL")
    for name in known:
        told = (seed, name, done[name])
        places = [pos for where, pos in rejects if where == name]
        # A line that is longer than a record may be is found in several pieces.
        assert all(any(a <= pos < b for a, b in bad[name]) for pos in places), told
        for a, b in bad[name]:
            here = [pos for pos in places if a <= pos < b]
            torn = tails[name].count(MARK)  # a torn record beside another is two pieces of one span
            assert here[:1] == [a], told
            assert len(here) <= max(1, torn) or b - a > MAX_LINE_BYTES, told


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "inside.jsonl").write_bytes(b"not read\n")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def link_to_a_folder(path: Path) -> None:
    path.symlink_to(path.parent)


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_another_spool(path: Path) -> None:
    path.symlink_to("host-1-1700000000000-aa.jsonl")


def socket_file(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as door:
        here = os.getcwd()
        os.chdir(path.parent)  # the address may hold a hundred bytes
        try:
            door.bind(path.name)
        finally:
            os.chdir(here)


STRANGE = [
    fifo,
    folder,
    link_to_itself,
    link_to_nothing,
    link_to_a_folder,
    link_to_zeros,
    link_to_another_spool,
    socket_file,
]
NAMES = [
    b"x.jsonl", b".jsonl", b"..jsonl", b"-.jsonl", b"---.jsonl", b"a b\nc.jsonl", b"\xff\xfe.jsonl", b"'; drop table decisions; --.jsonl",
    "☃-1-1-a.jsonl".encode(), b"host-1-notanumber-x.jsonl", b"*.jsonl", b"$HOME.jsonl", b"n" * 249 + b".jsonl", b"host-1-9-aa.jsonl.tmp",
    b"host-1-9-aa.JSONL", b"core", b".nfs0001",
]  # fmt: skip


def one_spool(data: Path) -> None:
    (data / "spool").mkdir(parents=True)
    line = encode(decision_payload(decision(0)))
    (data / "spool" / "host-1-1700000000000-aa.jsonl").write_bytes(line)
    (data / "spool" / "host-2-1700000000001-bb.jsonl").write_bytes(encode(decision_payload(decision(1))))


@pytest.mark.parametrize("strange", STRANGE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["aaa-0-0-0.jsonl", "zzz-9-9999999999999-9.jsonl"])
def test_what_is_no_spool_among_the_spools_holds_nobody_up(tmp_path, strange, name):
    one_spool(tmp_path)
    strange(tmp_path / "spool" / name)
    assert counted(tmp_path).ids.total() == 2
    with open_log(tmp_path, take_lock=False) as log:
        assert log.count() == 2


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_a_strange_name_is_read_or_left_alone_and_holds_nobody_up(tmp_path, name):
    one_spool(tmp_path)
    made = decision(2)
    with open(os.path.join(os.fsencode(tmp_path / "spool"), name), "wb") as file:
        file.write(encode(decision_payload(made)))
    found = counted(tmp_path)
    assert found.twice == []
    assert found.ids.total() == 2 + (made.id in found.ids) >= 2
    ours = name.endswith(b".jsonl") and b"\xff" not in name
    assert (made.id in found.ids) == ours


MAY_NOT = """
    import sys
    from pathlib import Path
    from router.log.owner import take_turn
    data = Path(sys.argv[1])
    (data / sys.argv[2]).chmod(0)
    first = take_turn(data).rows
    (data / sys.argv[2]).chmod(0o700)
    print(first, take_turn(data).rows)
"""


@pytest.mark.parametrize(
    ("closed", "rows"), [("spool/host-1-1700000000000-aa.jsonl", "1 1"), ("spool", "0 2")]
)
def test_what_may_not_be_read_holds_nobody_up_and_comes_in_once_it_may(tmp_path, closed, rows):
    one_spool(tmp_path)
    assert run_mortal(MAY_NOT, tmp_path, closed).strip() == rows


BODIES = {
    "no JSON": b"{garbage",
    "kind without end": b'{"kind":"decision',
    "no end": b'{"kind":"decision"',
    "no end, kind later": b'{"v":1,"kind":"decision"',
    "two in one": b'{"v":1}{"v":1}',
    "lone surrogate": rb'{"kind":"decision","prompt":"\ud800"}',
    "not a number": b'{"v":1,"kind":"decision","confidence":NaN}',
    "beyond doubles": b'{"v":1,"kind":"decision","confidence":1e999}',
    "deep": b'{"v":1,"extra":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "another kind": b'{"kind":"zebra"}',
    "no kind": b'{"v":1}',
    "kind is null": b'{"kind":null}',
    "kind is a list": b'{"kind":["decision"]}',
    "not UTF-8": b'{"kind":"decision","prompt":"\xff\xfe"}',
    "no uuid": b'{"kind":"decision","id":"nope"}',
    "no time": b'{"kind":"decision","decided_at":"soon"}',
    "year 99999": b'{"kind":"decision","decided_at":"99999-01-01T00:00:00"}',
    "list of scores": b'{"kind":"decision","scores":[1,2]}',
    "scores in words": b'{"kind":"decision","scores":{"a":"b"}}',
    "number too large": b'{"kind":"decision","input_tokens":1180591620717411303424}',
    "money too large": b'{"kind":"decision","cost_usd":"1e400"}',
    "zero byte": rb'{"kind":"decision","prompt":"a\u0000b"}',
    "twice the same key": b'{"kind":"decision","prompt":"a","prompt":"b","kind":"drop"}',
    "policy of numbers": b'{"kind":"policy","toml":5,"first_seen":"x"}',
    "drops in words": b'{"kind":"drop","n":"many"}',
    "feedback on nothing": b'{"kind":"feedback","decision_id":"zzz","judged_at":"y"}',
    "view of nothing": b'{"kind":"view"}',
    "erasure beyond numbers": b'{"kind":"erasure","n":1e30}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_line_that_is_whole_but_makes_no_sense_holds_nobody_up(tmp_path, body):
    before, after = (encode(decision_payload(decision(n))) for n in range(2))
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "host-1-1-aa.jsonl").write_bytes(before + sealed(body) + b"\n" + after)
    (tmp_path / "spool" / "host-2-2-bb.jsonl").write_bytes(encode(decision_payload(decision(2))))
    con = connect(None)
    done = ingest_all(con, tmp_path)
    whole = con.execute("SELECT count(*) FROM decisions WHERE prompt LIKE 'prompt number %'").fetchone()
    kept = sum(
        con.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("decisions", "policies", "drops", "feedback", "saved_views", "erasures")
    )
    places = con.execute("SELECT pos FROM rejects").fetchall()
    con.close()
    assert whole == (3,)
    assert kept + len(places) == 4  # a row or a reject, never both or neither
    assert done.rejects == len(places)
    assert places in ([], [(len(before),)])


def test_a_spool_cut_below_what_was_read_keeps_its_rows(tmp_path):
    one_spool(tmp_path)
    assert counted(tmp_path).ids.total() == 2
    (tmp_path / "spool" / "host-1-1700000000000-aa.jsonl").write_bytes(b"")
    (tmp_path / "spool" / "host-2-1700000000001-bb.jsonl").unlink()
    assert counted(tmp_path).ids.total() == 2
    assert (tmp_path / DATABASE).exists()
