"""Spend caps: no call that could pass one is made, what dies gives its hold back, and nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from fake_apis import FakeApis
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import SEED, Fixed, environment

from router import AsyncRouter, Policy, Router
from router.errors import ConfigurationError, PolicyError, ProviderError, ProviderUnreachable, SpendCapError
from router.log import open_log, queries
from router.prices import PriceBook
from router.spend import FILE, DayLedger, SpendMeter, most
from router.spend_caps import SpendCaps
from router.types import Usage

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
MODEL = "gpt-4o-mini"  # $0.15 and $0.60 per million tokens
ONE_CALL = Decimal("0.000006")  # 12 tokens in, 7 out: what the fake server says a reply took


@pytest.fixture
def fake(monkeypatch):
    with FakeApis() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
        yield server


def router(data, **options):
    return Router(SEED, classifier=Fixed(), data=data, **options)


def rows(data, columns):
    with open_log(data) as log:
        return log.rows(f"SELECT {columns} FROM decisions ORDER BY decided_at, id")


def test_a_call_that_could_pass_the_cap_is_not_made_and_its_decision_is_logged(fake, tmp_path):
    with router(tmp_path, max_usd_per_day="0.0001") as client:
        with pytest.raises(SpendCapError, match=r"today's cap of \$0.0001 leaves \$0.0001") as caught:
            client.ask("hello")
        assert fake.requests == []
        assert caught.value.decision.outcome == "spend_cap"
        # Shorter replies fit: 16 tokens of output and some 70 of input
        assert client.ask("hello", max_tokens=16).outcome == "ok"
    assert rows(tmp_path, "outcome, error_type, model_used IS NULL") == [
        ("spend_cap", "SpendCapError", True),
        ("ok", None, False),
    ]


def test_what_a_call_cost_replaces_what_was_held(fake, tmp_path):
    with router(tmp_path, max_usd_per_day=1, max_usd=1) as client:
        reply = client.ask("hello")
        day = DayLedger(tmp_path).read()
        assert reply.cost_usd == ONE_CALL
        assert (day.spent_usd, day.held_usd, day.n, day.assumed_usd) == (ONE_CALL, 0, 1, 0)
        assert client._spend.spent_usd == ONE_CALL


@pytest.mark.parametrize(
    ("tier", "cost"),
    # 12 tokens in and 7 out at $0.15 and $0.60, or at $0.25 and $1 per million
    [("default", ONE_CALL), ("priority", Decimal("0.00001")), ("scale", None)],
)
def test_a_call_costs_what_its_service_tier_does_in_the_row_in_the_sums_and_against_the_cap(
    tier, cost, fake, tmp_path
):
    fake.service_tier = tier
    with router(tmp_path, max_usd_per_day=1) as client:
        reply = client.ask("hello", max_tokens=100)
    bound = most([{"role": "user", "content": "hello"}], None, 100, MODEL, PriceBook(), DAY)
    assert bound >= 100 * Decimal("0.000001")  # the provider chooses the tier: the dearest known one is held
    assert DayLedger(tmp_path).read().spent_usd == (bound if cost is None else cost)
    assert reply.cost_usd == cost
    [(told, usd, version)] = rows(tmp_path, "service_tier, cost_usd, price_version IS NOT NULL")
    assert (told, usd, version) == (tier, cost, cost is not None)
    with open_log(tmp_path) as log:
        found = queries.summary(log, queries.Filter(), PriceBook())
        shown = queries.page(log, queries.Filter(), PriceBook())["cost_usd"].tolist()
    assert found["cost_usd"] == (None if cost is None else pytest.approx(float(cost)))
    assert found["n_unpriced"] == int(cost is None)
    assert [x for x in shown if x == x] == ([] if cost is None else [pytest.approx(float(cost))])


@pytest.mark.parametrize("how", ["ask", "stream"])
@pytest.mark.parametrize("asked_for", ["provider", "rate"])
def test_ctrl_c_before_the_model_is_called_leaves_a_row_and_holds_nothing(asked_for, how, fake, tmp_path):
    class Interrupted(PriceBook):
        """Ctrl+C while the chain is made, or while its cost is held."""

        def provider(self, model):
            return super().provider(model) if asked_for == "rate" else self.interrupt()

        def rate(self, model, day, *, tier=None):
            self.interrupt()

        def interrupt(self):
            raise KeyboardInterrupt

    with router(tmp_path, max_usd_per_day=1, prices=Interrupted(SEED.models)) as client:
        with pytest.raises(KeyboardInterrupt):
            getattr(client, how)("hello")
        assert DayLedger(tmp_path).read().held_usd == client._spend.spent_usd == 0
    assert fake.requests == []
    assert rows(tmp_path, "outcome, error_type, model_used, top_label") == [
        ("cancelled", "KeyboardInterrupt", None, "simple")
    ]


class Hosted(Fixed):
    """A classifier that costs $0.00002 a text."""

    def classify(self, text, labels):
        return replace(super().classify(text, labels), cost_usd=Decimal("0.00002"))


def test_what_a_classifier_costs_counts_against_both_caps(fake, tmp_path):
    caps = {"max_usd_per_day": "0.0002", "max_usd": "0.0002"}
    with Router(SEED, classifier=Hosted(), data=tmp_path, **caps) as client:
        client.route("hello")
        assert client._spend.spent_usd == DayLedger(tmp_path).read().spent_usd == Decimal("0.00002")
        client.ask("hello", max_tokens=8)
        day = DayLedger(tmp_path).read()
        assert client._spend.spent_usd == day.spent_usd == Decimal("0.00004") + ONE_CALL
        assert (day.n, day.held_usd, day.assumed_usd) == (1, 0, 0)
        for _ in range(7):
            client.route("hello")
        with pytest.raises(SpendCapError, match=r"this run's cap of \$0.0002 leaves \$0, and"):
            client.ask("hello", max_tokens=8)
    assert DayLedger(tmp_path).read().spent_usd == Decimal("0.0002") + ONE_CALL

    async def main():
        async with AsyncRouter(SEED, classifier=Hosted(), data=tmp_path / "own", max_usd_per_day=1) as client:
            await client.route("hello")
            return DayLedger(tmp_path / "own").read().spent_usd

    assert asyncio.run(main()) == Decimal("0.00002")


def test_a_stream_is_held_and_settled_too(fake, tmp_path):
    with router(tmp_path, max_usd_per_day=1) as client:
        stream = client.stream("hello")
        assert DayLedger(tmp_path).read().held_usd > 0
        assert "".join(stream) == fake.text
        assert DayLedger(tmp_path).read().held_usd == 0
        assert DayLedger(tmp_path).read().spent_usd == ONE_CALL


def test_an_async_router_keeps_the_cap(fake, tmp_path):
    async def main():
        async with AsyncRouter(SEED, classifier=Fixed(), data=tmp_path, max_usd="0.00003") as client:
            assert (await client.ask("hello", max_tokens=8)).outcome == "ok"
            assert [x async for x in client.stream("hello", max_tokens=1)]
            with pytest.raises(SpendCapError, match="this run's cap"):
                await client.ask("hello", max_tokens=8)
            with pytest.raises(SpendCapError, match="this run's cap"):
                async for _ in client.stream("hello", max_tokens=8):
                    pass

    asyncio.run(main())
    assert len(fake.requests) == 2
    assert sorted(x for (x,) in rows(tmp_path, "outcome")) == ["ok", "ok", "spend_cap", "spend_cap"]


@pytest.mark.parametrize("how", ["ask", "stream"])
def test_a_provider_that_raises_leaves_a_row_and_holds_nothing(how, fake, tmp_path):
    class Broken:
        def astream(self, *arguments, **options):
            raise ZeroDivisionError

        async def acomplete(self, *arguments, **options):
            raise ZeroDivisionError

    async def main():
        async with AsyncRouter(SEED, classifier=Fixed(), data=tmp_path, max_usd_per_day=1) as client:
            client._by_model[MODEL] = Broken()
            with pytest.raises(ZeroDivisionError):
                if how == "ask":
                    await client.ask("hello")
                async for _ in client.stream("hello"):
                    pass
            return client._spend._held

    assert asyncio.run(main()) == {}
    assert DayLedger(tmp_path).read().held_usd == 0
    assert rows(tmp_path, "outcome, error_type") == [("error", "ZeroDivisionError")]


def test_a_cancelled_call_counts_as_the_most_it_could_be_and_holds_nothing(fake, tmp_path):
    fake.always("hang")

    async def main():
        async with AsyncRouter(SEED, classifier=Fixed(), data=tmp_path, max_usd_per_day=1) as client:
            task = asyncio.create_task(client.ask("hello", max_tokens=100))
            while not fake.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())
    day = DayLedger(tmp_path).read()
    assert (day.held_usd, day.n) == (0, 1)
    assert day.spent_usd == day.assumed_usd > 0
    assert rows(tmp_path, "outcome") == [("cancelled",)]


def test_a_stream_that_is_dropped_holds_nothing(fake, tmp_path):
    with router(tmp_path, max_usd_per_day=1) as client:
        client.stream("hello").close()
        assert DayLedger(tmp_path).read().held_usd == 0


def test_a_model_without_a_known_price_is_not_called_under_a_cap(fake, tmp_path):
    policy = Policy.from_toml(SEED.to_toml() + '\n[models."my-llm"]\nprovider = "openai"\n')
    with (
        Router(policy, classifier=Fixed(), data=tmp_path, max_usd=5) as client,
        pytest.raises(SpendCapError, match=r"no price is known for 'my-llm'.*price = "),
    ):
        client.ask("hello", model="my-llm")
    with Router(policy, classifier=Fixed(), data=tmp_path) as client:
        assert (
            client.ask("hello", model="my-llm").outcome == "ok"
        )  # without a cap it is only a cost that is not known
    assert rows(tmp_path, "outcome, cost_usd") == [("spend_cap", None), ("ok", None)]


def test_fifty_parallel_calls_never_pass_the_cap(fake, tmp_path):
    fake.usage = {"input": 60, "output": 50}
    each = PriceBook().price(Usage(60, 50), MODEL, datetime.now(UTC).date())  # nearly the most it can be
    cap = 10 * each
    with router(tmp_path, max_usd_per_day=cap) as client, ThreadPoolExecutor(50) as pool:

        def ask(_):
            try:
                return client.ask("hello", max_tokens=50).cost_usd
            except SpendCapError:
                return None

        costs = [cost for cost in pool.map(ask, range(50)) if cost is not None]
    day = DayLedger(tmp_path).read()
    assert sum(costs) == day.spent_usd <= cap
    assert len(costs) == len(fake.requests) >= 5
    assert day.held_usd == 0


HOLDER = """
import os, sys, time
from decimal import Decimal
from pathlib import Path
from router.spend import DayLedger
ledger = DayLedger(Path(sys.argv[1]))
made = 0
for i in range(int(sys.argv[2])):
    try:
        ledger.hold(f"{os.getpid()}-{i}", Decimal("0.01"), Decimal("0.5"))
    except Exception as error:
        assert "cap" in str(error), error
        continue
    if sys.argv[3] == "settle":
        ledger.settle(f"{os.getpid()}-{i}", Decimal("0.01"))
    made += 1
print(made, flush=True)
if sys.argv[3] == "hang":
    time.sleep(60)
"""


def start(data, calls, then):
    command = [sys.executable, "-c", HOLDER, str(data), str(calls), then]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(None))


def test_processes_share_the_cap_of_the_day(tmp_path):
    together = [start(tmp_path, 25, "settle") for _ in range(4)]
    made = [int(process.communicate(timeout=60)[0]) for process in together]
    assert sum(made) == 50  # 100 calls of 1 cent were tried under a cap of 50 cents
    day = DayLedger(tmp_path).read()
    assert (day.spent_usd, day.n, day.held_usd) == (Decimal("0.50"), 50, 0)


def test_what_a_killed_process_held_is_given_back_and_said(tmp_path):
    ledger = DayLedger(tmp_path)
    ledger.hold("mine", Decimal("0.02"), Decimal(1))
    ledger.settle("mine", Decimal("0.015"))
    other = start(tmp_path, 3, "hang")
    assert other.stdout.readline() == "3\n"
    assert ledger.read().held_usd == Decimal("0.03")
    other.kill()
    other.communicate()
    day = ledger.read()
    assert (day.spent_usd, day.held_usd) == (Decimal("0.015"), 0)
    assert (day.n_lost, day.lost_usd) == (3, Decimal("0.03"))
    ledger.hold("next", Decimal("0.98"), Decimal(1))  # fits, because nothing is left held
    assert DayLedger(tmp_path).read().n_lost == 3


@pytest.mark.parametrize("moment", ["hold", "settle"])
def test_a_kill_in_the_middle_of_a_change_leaves_a_whole_file(moment, tmp_path):
    script = """
import os, sys, threading, time
from decimal import Decimal
from pathlib import Path
from router.spend import DayLedger
ledger = DayLedger(Path(sys.argv[1]))
print("go", flush=True)
i = 0
while True:
    ledger.hold(str(i), Decimal("0.001"), Decimal(1_000_000))
    ledger.settle(str(i), Decimal("0.001"))
    i += 1
"""
    for round_ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(None),
        )
        assert child.stdout.readline() == "go\n"
        time.sleep(0.02 + 0.013 * round_ + (0.007 if moment == "settle" else 0))
        child.kill()
        child.communicate()
        day = DayLedger(tmp_path).read()
        assert day.held_usd == 0
        assert day.spent_usd == day.n * Decimal("0.001")
        assert day.n_lost <= round_ + 1


@pytest.mark.parametrize(
    ("fault", "counted"),
    [("401", False), ("429", False), ("500", False), ("hang", True), ("no_usage", True), ("cut_json", True)],
)
def test_a_call_without_a_known_cost_counts_as_the_most_it_could_be_unless_nobody_charges_for_it(
    fault, counted, fake, tmp_path
):
    fake.always(fault)
    deadline = 0.6 if fault == "hang" else 5
    with (
        router(tmp_path, max_usd_per_day=1, deadline_s=deadline) as client,
        contextlib.suppress(ProviderError),
    ):
        client.ask("hello", max_tokens=100)
    day = DayLedger(tmp_path).read()
    assert day.held_usd == 0
    assert (day.spent_usd > 0) == (day.assumed_usd > 0) == counted
    if counted:
        # 5 bytes, "role", "user" and "content", two frames of 32; 100 tokens of output
        assert day.spent_usd == most(
            [{"role": "user", "content": "hello"}], None, 100, MODEL, PriceBook(), DAY
        )


def test_the_day_begins_anew_at_midnight_utc_but_never_when_a_clock_is_set_back(tmp_path):
    now = [NOON]
    ledger = DayLedger(tmp_path, clock=lambda: now[0])
    ledger.hold("a", Decimal(1), Decimal(1))
    ledger.settle("a", Decimal(1))
    now[0] -= 86_400
    with pytest.raises(SpendCapError):
        ledger.hold("b", Decimal("0.1"), Decimal(1))
    now[0] += 2 * 86_400
    assert ledger.read().spent_usd == 0
    ledger.hold("b", Decimal("0.1"), Decimal(1))


def test_a_call_under_way_at_midnight_counts_into_the_day_of_its_end(tmp_path):
    now = [NOON]
    ledger = DayLedger(tmp_path, clock=lambda: now[0])
    ledger.hold("a", Decimal("0.4"), Decimal(1))
    now[0] += 86_400
    assert ledger.read().held_usd == Decimal("0.4")
    ledger.settle("a", Decimal("0.3"))
    assert (ledger.read().day, ledger.read().spent_usd) == (date(2026, 11, 21), Decimal("0.3"))


def test_what_another_machine_holds_is_given_back_after_an_hour(tmp_path):
    now = [NOON]
    ledger = DayLedger(tmp_path, clock=lambda: now[0])
    ledger.hold("a", Decimal("0.4"), Decimal(1))
    document = json.loads((tmp_path / FILE).read_text())
    document["held"]["a"][1] = "another-machine"
    (tmp_path / FILE).write_text(json.dumps(document))
    now[0] += 3_000
    assert ledger.read().held_usd == Decimal("0.4")
    now[0] += 1_000
    assert (ledger.read().held_usd, ledger.read().n_lost) == (0, 1)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'{"day": "x"}', b'{"spent_usd": "NaN"}', b"\xff\xfe"],
)
def test_a_damaged_file_stops_calls_instead_of_counting_from_zero(content, fake, tmp_path):
    (tmp_path / FILE).write_bytes(content)
    with router(tmp_path, max_usd_per_day=1) as client:
        with pytest.raises(SpendCapError, match=r"spend\.json is damaged.*Remove the file"):
            client.ask("hello")
        assert client.route("hello").model_chosen == MODEL
    assert fake.requests == []


def test_a_folder_that_cannot_be_written_stops_calls_under_a_cap_but_not_routing(fake, tmp_path):
    (tmp_path / "data").write_text("a file")
    with router(tmp_path / "data", max_usd_per_day=1) as client:
        with pytest.raises(SpendCapError, match="cannot be used"):
            client.ask("hello")
        assert client.route("hello").model_chosen == MODEL


def test_a_settled_cost_that_cannot_be_written_stays_held_and_is_written_later(tmp_path, caplog):
    meter = SpendMeter(SpendCaps(per_day_usd=Decimal(1)), tmp_path)
    meter.hold("a", Decimal("0.4"), MODEL)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(b"{")
    meter.settle("a", [(MODEL, Decimal("0.1"))])
    assert "still held against the cap" in caplog.text
    (tmp_path / FILE).write_bytes(whole)
    assert DayLedger(tmp_path).read().held_usd == Decimal("0.4")
    meter.hold("b", Decimal("0.2"), MODEL)
    day = DayLedger(tmp_path).read()
    assert (day.spent_usd, day.held_usd) == (Decimal("0.1"), Decimal("0.2"))


def test_what_classifying_cost_waits_as_one_sum_while_the_file_cannot_be_used(tmp_path, caplog):
    with Router(SEED, classifier=Hosted(), data=tmp_path, max_usd_per_day=1) as client:
        (tmp_path / FILE).write_bytes(b"{")
        for _ in range(5):
            client.route("hello")
        assert client._spend._late == []
        assert [x.message for x in caplog.records if "today's sum" in x.message] == [
            x.message for x in caplog.records
        ]
        assert len(caplog.records) == 1
        assert client._spend._classified == client._spend.spent_usd == Decimal("0.0001")
        (tmp_path / FILE).unlink()
        client.route("hello")
    assert DayLedger(tmp_path).read().spent_usd == Decimal("0.00012")


def test_without_a_cap_there_is_no_file(fake, tmp_path):
    with router(tmp_path) as client:
        client.ask("hello")
        assert client._spend is None
    assert not (tmp_path / FILE).exists()


def cli(data, *arguments):
    command = [sys.executable, "-m", "router.cli", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ask_has_a_cap_of_its_own_on_the_command_line(fake, tmp_path):
    stopped = cli(tmp_path, "ask", "what is the capital of japan", "--max-usd", "0.00001")
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert (
        "error: this run's cap of $0.00001 leaves $0.00001, and this call could cost $0.0" in stopped.stderr
    )
    assert "capital" not in stopped.stderr
    assert fake.requests == []
    assert rows(tmp_path, "outcome, source") == [("spend_cap", "cli")]
    assert cli(tmp_path, "ask", "hello", "--max-usd", "much").returncode == 2
    assert cli(tmp_path, "ask", "hello", "--max-usd", "0.5").returncode == 0


def test_doctor_says_how_much_of_the_day_is_used_and_that_a_damaged_file_stops_calls(tmp_path):
    (tmp_path / "policy.toml").write_text(SEED.to_toml() + '\n[spend]\nper_day_usd = "5.00"\n')
    ledger = DayLedger(tmp_path)
    ledger.hold("a", Decimal("1.25"), Decimal(5))
    assert "$1.25 of today's $5.00 is spent or under way" in cli(tmp_path, "doctor").stdout
    (tmp_path / FILE).write_text("{")
    looked = cli(tmp_path, "doctor")
    assert looked.returncode == 1
    assert "spend.json is damaged" in looked.stdout


def test_routing_alone_never_touches_the_cap(tmp_path):
    with router(tmp_path, max_usd_per_day=0, max_usd=0) as client:
        assert client.route("hello").outcome is None
    assert not (tmp_path / FILE).exists()


def test_the_file_is_for_its_owner_alone(tmp_path):
    DayLedger(tmp_path).hold("a", Decimal(1), Decimal(1))
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600


def test_threads_of_one_router_share_the_cap_of_the_run(tmp_path):
    meter = SpendMeter(SpendCaps(per_run_usd=Decimal("0.10")), tmp_path)
    made, gate = [], threading.Barrier(20)

    def call(key):
        gate.wait()
        try:
            meter.hold(key, Decimal("0.02"), MODEL)
            made.append(key)
        except SpendCapError:
            pass

    threads = [threading.Thread(target=call, args=(str(i),)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 5
    for key in made:
        meter.settle(key, [(MODEL, Decimal("0.01"))])
    assert meter.spent_usd == Decimal("0.05")


def test_a_second_model_of_one_decision_adds_to_its_hold(tmp_path):
    meter = SpendMeter(SpendCaps(per_day_usd=Decimal(1), per_run_usd=Decimal(1)), tmp_path)
    meter.hold("a", Decimal("0.3"), MODEL)
    meter.hold("a", Decimal("0.4"), "gpt-4o")
    assert DayLedger(tmp_path).read().held_usd == Decimal("0.7")
    with pytest.raises(SpendCapError):
        meter.hold("a", Decimal("0.4"), "gpt-4o")
    # The first timed out, so it counts as the most it could be; the second says what it cost.
    meter.settle("a", [(MODEL, None), ("gpt-4o", Decimal("0.1"))])
    day = DayLedger(tmp_path).read()
    assert (day.held_usd, day.spent_usd, day.assumed_usd) == (0, Decimal("0.4"), Decimal("0.3"))
    assert meter.spent_usd == Decimal("0.4")
    meter.hold("b", Decimal("0.3"), MODEL)
    meter.hold("b", Decimal("0.3"), "gpt-4o")
    meter.settle("b", [(MODEL, Decimal(0)), ("gpt-4o", Decimal("0.1"))])
    assert meter.spent_usd == Decimal("0.5")


@pytest.mark.parametrize(("fault", "charged"), [("short_body", True), ("closed", True), ("500", False)])
def test_a_request_that_may_have_been_charged_counts_against_the_cap(fault, charged, fake, tmp_path):
    fake.always(fault)
    with router(tmp_path, max_usd_per_day=1) as client, pytest.raises(ProviderUnreachable) as failed:
        client.ask("hello", max_tokens=100)
    bound = most([{"role": "user", "content": "hello"}], None, 100, MODEL, PriceBook(), DAY)
    assert failed.value.outcome == ("broken_off" if charged else "server_error")
    assert DayLedger(tmp_path).read().spent_usd == (3 * bound if charged else 0)  # three requests


@pytest.mark.parametrize("fault", ["408", "closed"])
def test_a_request_is_made_again_only_where_the_cap_has_room_for_both(fault, fake, tmp_path):
    bound = most([{"role": "user", "content": "hello"}], None, 100, MODEL, PriceBook(), DAY)
    fake.always(fault)
    for room, n in ((1.5, 1), (2, 2), (9, 3)):
        fake.requests.clear()
        data = tmp_path / str(room)
        cap = bound * Decimal(room)
        with router(data, max_usd_per_day=cap, max_usd=cap) as client, pytest.raises(ProviderError) as failed:
            client.ask("hello", max_tokens=100)
        day = DayLedger(data).read()
        assert (len(fake.requests), failed.value.decision.attempts) == (n, n)
        assert (day.spent_usd, day.held_usd, client._spend.spent_usd) == (n * bound, 0, n * bound)


def test_a_hold_for_a_call_that_has_ended_is_not_kept(tmp_path):
    meter = SpendMeter(SpendCaps(per_day_usd=Decimal(1)), tmp_path)
    assert not meter.hold_again("never", MODEL)
    meter.hold("a", Decimal("0.4"), MODEL)
    assert meter.hold_again("a", MODEL)
    assert not meter.hold_again("a", MODEL)  # a third would pass the cap
    meter.settle("a", [(MODEL, None), (MODEL, None)])
    assert not meter.hold_again("a", MODEL)
    day = DayLedger(tmp_path).read()
    assert (day.spent_usd, day.held_usd, day.n) == (Decimal("0.8"), 0, 1)


def locked_for(data, seconds):
    """The day's file in the hands of another; the thread lets go."""
    fd = os.open(data / FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    timer = threading.Timer(seconds, os.close, [fd])
    timer.start()
    return timer


def test_the_days_file_is_waited_for_within_the_calls_deadline(fake, tmp_path):
    with router(tmp_path, max_usd_per_day=1, deadline_s=0.5) as client:
        client.ask("warm")
        timer = locked_for(tmp_path, 2)
        started = time.monotonic()
        with pytest.raises(SpendCapError, match="was locked by another process"):
            client.ask("hello")
        assert time.monotonic() - started < 3
        timer.join()


@pytest.mark.parametrize(
    ("fault", "deadline_s", "outcome", "at_most_s"),
    [("429-after-1", 6, "ok", 3.5), ("hang", 1.5, "timeout", 2.5)],
    ids=["waits in time", "over the deadline"],
)
def test_an_end_that_finds_the_days_file_locked_holds_up_neither_the_caller_nor_the_loop(
    fault, deadline_s, outcome, at_most_s, fake, tmp_path
):
    gaps = []

    async def beat():
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async def run():
        async with AsyncRouter(
            SEED, classifier=Fixed(), data=tmp_path, max_usd_per_day=1, deadline_s=deadline_s
        ) as client:
            await client.ask("warm")
            fake.then(fault)
            beating = asyncio.create_task(beat())
            asking = asyncio.create_task(client.ask("hello"))
            while len(fake.requests) == 1:
                await asyncio.sleep(0.01)
            timer = locked_for(tmp_path, 2.5)
            started = time.monotonic()
            try:
                ended = (await asking).outcome
            except ProviderError as error:
                ended = error.outcome
            spent_s = time.monotonic() - started
            await asyncio.sleep(0.05)  # the beat that was held up is counted
            beating.cancel()
            await asyncio.to_thread(timer.join)
        return ended, spent_s

    ended, spent_s = asyncio.run(run())
    assert ended == outcome
    assert spent_s < at_most_s
    assert max(gaps) < 0.75
    day = DayLedger(tmp_path).read()  # what could not be written in time is, when the router is closed
    assert (day.n, day.held_usd) == (2, 0)
    assert (day.assumed_usd > 0) == (outcome == "timeout")


def test_a_request_that_asks_for_an_hour_in_the_cache_is_held_at_that_price(tmp_path):
    def bound(ttl, model="claude-sonnet-4-5"):
        part = {"type": "text", "text": "x" * 1000, "cache_control": {"type": "ephemeral", "ttl": ttl}}
        return most([{"role": "user", "content": [part]}], None, 10, model, PriceBook(), DAY)

    assert bound("1h") > bound("5m") * Decimal("1.5")
    with pytest.raises(
        SpendCapError, match=r"price of 'gpt-6-sol' has no cache_write_1h, .* Add cache_write_1h"
    ):
        bound("1h", "gpt-6-sol")  # nobody states a price for it
    assert bound("1h", "nobody-knows-this") is None
    assert bound("1h", "gpt-4o-mini") == bound("5m", "gpt-4o-mini")  # writing costs nothing there


PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "what is it"}, PICTURE],
        [{"type": "input_file", "file_id": "file-1"}],
        [{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": {}}]}, {"type": "text", "text": "?"}],
        [{"type": "text", "text": "?"}, {"type": "something-new"}],
    ],
    ids=["picture", "file", "picture of a tool", "unknown"],
)  # fmt: skip
def test_a_part_whose_cost_has_no_bound_is_refused_under_a_cap(content, fake, tmp_path):
    prompt = [{"role": "user", "content": content}, {"role": "user", "content": "hello"}]
    with router(tmp_path / "capped", max_usd_per_day=1000) as client:
        with pytest.raises(SpendCapError, match="no bound that is known"):
            client.ask(prompt)
        assert fake.requests == []
    assert rows(tmp_path / "capped", "outcome, model_used") == [("spend_cap", None)]
    with router(tmp_path / "free") as client:
        assert client.ask(prompt).outcome == "ok"


def test_a_tool_that_the_provider_runs_is_refused_under_a_cap_and_a_function_is_bounded(fake, tmp_path):
    function = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    own = {"name": "add", "input_schema": {"type": "object"}}
    with router(tmp_path, max_usd_per_day=1) as client:
        with pytest.raises(SpendCapError, match="no bound that is known"):
            client.ask("hello", tools=[{"type": "web_search"}])
        assert client.ask("hello", tools=[function, own]).outcome == "ok"
    messages = [{"role": "user", "content": "hello"}]
    without = most(messages, None, 100, MODEL, PriceBook(), DAY)
    assert most(messages, None, 100, MODEL, PriceBook(), DAY, [own]) > without


def test_models_asked_in_turn_are_held_all_or_none(tmp_path):
    meter = SpendMeter(SpendCaps(per_day_usd=Decimal(1)), tmp_path)
    with pytest.raises(SpendCapError):
        meter.hold_all("a", [(MODEL, Decimal("0.6")), ("gpt-4o", Decimal("0.6"))])
    assert (DayLedger(tmp_path).read().held_usd, DayLedger(tmp_path).read().n) == (0, 0)  # no call was made
    meter.hold_all("b", [(MODEL, Decimal("0.5")), ("gpt-4o", Decimal("0.5"))])
    assert DayLedger(tmp_path).read().held_usd == 1


def test_a_policy_holds_its_caps_exactly_and_gives_them_back():
    policy = Policy.from_toml(SEED.to_toml() + '\n[spend]\nper_day_usd = "5.00"\nper_run_usd = 0.1\n')
    assert policy.spend == SpendCaps(Decimal("5.00"), Decimal("0.1"))
    again = Policy.from_toml(policy.to_toml())
    assert again == policy
    assert again.fingerprint == SEED.fingerprint  # a cap decides nothing


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("per_day_usd = -1", "spend.per_day_usd: found -1, expected USD, 0 or more"),
        ('per_day_usd = "five"', "spend.per_day_usd: found 'five'"),
        ("per_day_usd = nan", "spend.per_day_usd: found nan"),
        ("per_run_usd = true", "spend.per_run_usd: found True"),
        ("per_dya_usd = 1", "did you mean 'per_day_usd'"),
    ],
)
def test_a_cap_that_makes_no_sense_is_a_fault_of_the_policy(line, says):
    with pytest.raises(PolicyError, match=says):
        Policy.from_toml(f"{SEED.to_toml()}\n[spend]\n{line}\n")


@pytest.mark.parametrize("value", ["nan", "-1", "much", True, float("inf")])
def test_an_argument_that_is_no_amount_names_itself(value, tmp_path):
    with pytest.raises(ConfigurationError, match="max_usd: found"):
        router(tmp_path, max_usd=value)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=400), system=st.none() | st.text(max_size=50), longest=st.integers(1, 4_000))
def test_the_most_a_call_can_cost_bounds_every_way_to_count_its_tokens(text, system, longest):
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    # A byte-level vocabulary without a single merge takes as many tokens as any can.
    letters = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    count = sum(len(tokenizer.encode(part).ids) for part in (text, system or ""))
    book, messages = PriceBook(), [{"role": "user", "content": text}]
    for model in (MODEL, "claude-sonnet-4-5"):
        bound = most(messages, system, longest, model, book, DAY)
        assert bound is not None
        for usage in (Usage(count + 1, longest), Usage(1, longest, None, count)):
            assert book.price(usage, model, DAY) <= bound


@pytest.mark.parametrize("fault", ["429", "hang"])
def test_a_failover_chain_is_held_as_a_whole_and_settled_model_by_model(fault, fake, tmp_path):
    policy = Policy.from_toml(
        SEED.to_toml().replace(
            'model = "gpt-4o-mini"\n', 'model = "gpt-4o-mini"\nfailover = ["gpt-4.1"]\n', 1
        )
    )
    fake.by_model[MODEL] = fault
    with Router(policy, classifier=Fixed(), data=tmp_path, max_usd_per_day=1, deadline_s=4) as client:
        reply = client.ask("hello", max_tokens=100)
    day = DayLedger(tmp_path).read()
    assert (reply.decision.model_used, day.held_usd) == ("gpt-4.1", 0)
    # A rate limit costs nothing; a model that did not answer in time counts as the most it could be.
    bound = most([{"role": "user", "content": "hello"}], None, 100, MODEL, PriceBook(), DAY)
    assert day.spent_usd == reply.cost_usd + (bound if fault == "hang" else 0)
    with (
        Router(policy, classifier=Fixed(), data=tmp_path, max_usd="0.0002", deadline_s=4) as client,
        pytest.raises(SpendCapError),
    ):
        client.ask("hello", max_tokens=100)  # the second model alone could cost more


def test_the_marks_of_nested_arguments_are_held_too():
    grid = [[0, 1] * 50] * 120
    message = {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "1", "name": "draw", "input": {"grid": grid, "none": []}}],
    }
    sent = len(json.dumps(grid, separators=(",", ":")))
    book, day = PriceBook(), date(2026, 11, 1)
    held = most([message], None, 1, "gpt-4o", book, day, ())
    rate = book.rate("gpt-4o", day)
    assert held is not None and rate is not None
    assert held >= sent * rate.input / 1_000_000
