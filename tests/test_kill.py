"""SIGKILL at random moments: nothing that was acknowledged is lost, nothing is there twice, every start works."""

from __future__ import annotations

import random
import time
from datetime import timedelta

import pytest
from log_samples import START
from log_torture import Target, counted, crew, owner_process, sizes, until

from router import open_log
from router.log import tasks

WRITERS = 8
SPAN_SECONDS = 1.2


def killed_at_random(targets: list[Target], rng: random.Random, *, first: float, span: float) -> None:
    """Kill each process at a moment of its own between ``first`` and ``span`` seconds from now."""
    moments = sorted((rng.uniform(first, span), n) for n in range(len(targets)))
    begun = time.monotonic()
    for at, n in moments:
        time.sleep(max(begun + at - time.monotonic(), 0))
        targets[n].kill()


def judged(data, acknowledged: set[str], killed: int, seed: int) -> None:
    """Rows are the acknowledged ones and at most the one in flight at each kill."""
    found = counted(data)
    told = f"seed {seed}, {len(acknowledged):,} acknowledged"
    assert len(acknowledged) > killed, told
    assert acknowledged - set(found.ids) == set(), f"lost; {told}"
    assert found.twice == [], f"twice; {told}"
    in_flight = set(found.ids) - acknowledged
    torn = found.rejects.pop("cut off", 0)
    assert len(in_flight) + torn <= killed, told
    assert not found.rejects, told
    print(f"\n{told}, {killed} kills, {len(in_flight)} in flight, {torn} torn; 0 lost, 0 twice")


@sizes(4, 100)
def test_killing_eight_writers_and_the_owner_loses_and_doubles_nothing(tmp_path, size):
    seed = random.randrange(10**6)
    rng, data, acknowledged = random.Random(seed), tmp_path / "data", set()
    for number in range(size):
        names = [f"w{number}-{n}" for n in range(WRITERS)]
        with (
            owner_process(data, eager=number % 4 > 1) as owner,
            crew(data, tmp_path, names, turns=number % 2 == 0, chars=40_000, seed=seed) as writers,
        ):
            if number % 2:
                owner.owns()  # else the kills begin while it starts
            targets = [*writers.targets.values(), owner.target]
            killed_at_random(targets, rng, first=0.1, span=SPAN_SECONDS)
            writers.end()
            states = owner.end(kill=True)
            assert set(states) <= {"stopped", "waiting", "owning"}, (seed, states)
            acknowledged |= writers.acknowledged()
            assert writers.refused() == 0
            assert writers.said() == ""
    with owner_process(data) as owner:  # the last start is left alone
        owner.owns()
        assert set(owner.end()) == {"stopped", "waiting", "owning"}
    judged(data, acknowledged, size * WRITERS, seed)


@sizes(2, 100)
def test_killing_routers_that_take_turns_loses_and_doubles_nothing(tmp_path, size):
    seed = random.randrange(10**6)
    rng, data, acknowledged = random.Random(seed), tmp_path / "data", set()
    for number in range(size):
        names = [f"w{number}-{n}" for n in range(WRITERS)]
        with crew(data, tmp_path, names, chars=40_000, seed=seed, eager=number % 2 == 1) as writers:
            killed_at_random(list(writers.targets.values()), rng, first=0.5, span=SPAN_SECONDS)
            writers.end()
            acknowledged |= writers.acknowledged()
            assert writers.refused() == 0
            assert writers.said() == "", seed
    judged(data, acknowledged, size * WRITERS, seed)


@pytest.mark.parametrize("durability", ["process", "power", "async"])
def test_a_writer_that_is_asked_to_end_loses_nothing(tmp_path, durability):
    data, names = tmp_path / "data", ["w0", "w1", "w2"]
    with crew(data, tmp_path, names, rate=2000, chars=3000, durability=durability) as writers:
        until(lambda: min(len(writers.acknowledged_by(name)) for name in names) > 200)
        writers.terminate()
        writers.end()
        acknowledged = writers.acknowledged()
        assert writers.said() == ""
    found = counted(data)
    assert acknowledged - set(found.ids) == set()
    assert (found.twice, found.drops) == ([], 0)
    assert len(set(found.ids) - acknowledged) <= len(names)


@sizes(1, 50)
def test_a_writer_in_the_background_that_is_killed_loses_its_newest_alone(tmp_path, size):
    """Durability "async" says that a decision waits for 20 ms at most; what is lost has no gap in front of it."""
    data, most, longest = tmp_path / "data", 0, 0
    for number in range(size):
        names = [f"w{number}-{n}" for n in range(3)]
        with crew(data, tmp_path, names, rate=1000, chars=3000, durability="async") as writers:
            until(lambda w=writers, n=names: min(len(w.acknowledged_by(name)) for name in n) > 100)
            writers.kill()
            writers.end()
            found = counted(data)
            assert found.twice == []
            assert not set(found.rejects) - {"cut off"}
            for name in names:
                acked = writers.acknowledged_by(name)
                there = [id in found.ids for id, _ in acked]
                assert there == sorted(there, reverse=True)
                lost = there.count(False)
                if lost:
                    most, longest = max(most, lost), max(longest, acked[-1][1] - acked[-lost][1])
    print(
        f"\n{3 * size} kills, lost at most {most} newest of 1,000 a second, of the last {longest / 1e6:.0f} ms"
    )


@sizes(2, 100)
def test_killing_the_owner_while_it_erases_and_rebuilds_loses_and_doubles_nothing(tmp_path, size):
    """What was asked for is carried out by the owners that follow, and nothing else goes."""
    seed = random.randrange(10**6)
    rng, data = random.Random(seed), tmp_path / "data"
    kept, sessions, forgotten = set(), [], set()
    cutoff = (START - timedelta(days=1)).isoformat()
    for number in range(size):
        names = [f"old{number}", f"new{number}-0", f"new{number}-1", f"new{number}-2"]
        with (
            owner_process(data, eager=True) as owner,
            crew(data, tmp_path, names, rate=300, chars=3000, seed=seed) as writers,
        ):
            owner.owns()
            until(writers.all_began)
            wanted = [("retention", "days", cutoff), ("rebuild", "none", "")]
            if sessions:
                forgotten.add(rng.choice(sessions))
                wanted += [("forget", "session", name) for name in sorted(forgotten)[-1:]]
            for kind, selector, value in wanted:
                tasks.ask(data, kind, selector, value)
            killed_at_random([*writers.targets.values(), owner.target], rng, first=0.0, span=0.8)
            writers.end()
            states = owner.end(kill=True)
            assert not [state for state in states if state.startswith("failed")], (seed, states)
            kept |= {(name, id) for name in names[1:] for id, _ in writers.acknowledged_by(name)}
            sessions += names[1:]
    with owner_process(data, eager=True) as owner:
        owner.owns()
        tasks.ask(data, "forget", "session", *sorted(forgotten))
        tasks.ask(data, "retention", "days", cutoff)
        until(lambda: not tasks.pending(data), 900, "what was asked for")
        owner.end()
    found = counted(data)
    wanted_ids = {id for name, id in kept if name not in forgotten}
    assert wanted_ids - set(found.ids) == set(), seed
    assert found.twice == [], seed
    with open_log(data) as log:
        left = {name for (name,) in log.rows("SELECT DISTINCT session_id FROM decisions")}
    assert not left & forgotten, seed
    assert not [name for name in left if name.startswith("old")], seed
    assert len(set(found.ids) - {id for _, id in kept}) <= size * len(names)
    print(f"\nseed {seed}: {size} kills at erasing and rebuilding, {len(wanted_ids):,} kept, 0 lost, 0 twice")
