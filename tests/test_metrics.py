"""The log's counters: right while everything works, and right above all when it does not."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from log_samples import Fixed, decision, environment, run

from router import AsyncRouter, Policy, Router
from router.log import Owner
from router.log.metrics import of_log, of_process, prometheus
from router.log.spool import Spool
from router.log.writer import Writer

LINE = re.compile(
    r'(?:# (?:HELP|TYPE) routescope_[a-z_]+ .+|routescope_[a-z_]+(?:\{[a-z]+="(?:[^"\\]|\\.)*"\})? -?[0-9.e+-]+)\Z'
)


def samples(text: str) -> dict[str, float]:
    """Samples of a page of metrics, every line of which is well formed."""
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        assert LINE.match(line), line
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def test_a_router_counts_what_it_wrote(tmp_path):
    with Router(Policy.preset("seed"), classifier=Fixed(), data=tmp_path) as client:
        for _ in range(5):
            client.route("hello")
        found = client.metrics()
    assert found["written"] == 6  # the policy is a record too
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.jsonl"))
    assert (found["dropped"], found["queue_bytes"], found["durability"]) == ({}, 0, "process")
    assert json.loads(json.dumps(found)) == found, "a plain dict"


def test_a_router_counts_its_drops_by_reason(tmp_path):
    (tmp_path / "data").write_text("no folder")
    client = Router(Policy.preset("seed"), classifier=Fixed(), data=tmp_path / "data")
    client.route("hello")
    assert client.metrics()["dropped"] == dict(client.dropped)
    assert sum(client.dropped.values()) == 1
    client._writer.spool.close()


def test_a_router_without_a_log_has_no_counters():
    assert Router(Policy.preset("seed"), log=False).metrics() == {}
    assert AsyncRouter(Policy.preset("seed"), log=False).metrics() == {}


def test_power_tells_what_is_on_the_disk(tmp_path):
    writer = Writer(tmp_path, turns=False, durability="power")
    assert of_process(writer)["last_sync_age_s"] is None
    writer.log(decision())
    writer.spool.flush()
    found = of_process(writer)
    assert (found["synced"], found["sync_failures"]) == (1, 0)
    assert 0 <= found["last_sync_age_s"] < 60
    writer.close()


def test_the_log_counts_losses_whether_or_not_they_are_reported(tmp_path):
    spool = Spool(tmp_path)
    spool.drop("queue full", 3)
    spool.append(decision())  # reports them
    spool.drop("No space left on device", 2)
    (tmp_path / "spool" / "x-1-1-a.jsonl").write_bytes(b"garbage\n")
    owner = Owner(tmp_path)
    owner.start()
    assert owner.wait_ready(20)
    try:
        end = time.monotonic() + 20
        while (found := of_log(tmp_path, owner.cursor()))[
            "owner"
        ] != "owning":  # it says so a moment after it does
            assert time.monotonic() < end
            time.sleep(0.02)
        assert found["dropped"] == {"queue full": 3, "No space left on device": 2}
        assert found["rejects"] == {"not a record": 1}
        assert found["decisions"] == 1
    finally:
        owner.stop()
        spool.close()


def test_a_log_without_an_owner_says_so(tmp_path):
    found = of_log(tmp_path)
    assert found["owner"] == "none"
    assert samples(prometheus(found)) == {'routescope_owner_state{state="none"}': 1}


def test_prometheus_can_read_reasons_of_any_text():
    text = prometheus(
        {
            "dropped": {'a "quoted"\nreason \\ x': 2},
            "written": 7,
            "last_sync_age_s": 0.123456,
            "queue_bytes": None,
        }
    )
    assert samples(text) == {
        "routescope_records_written_total": 7,
        'routescope_records_dropped_total{reason="a \\"quoted\\"\\nreason \\\\ x"}': 2,
        "routescope_last_sync_age_seconds": 0.123,
    }


SERVE = """
    import sys
    from pathlib import Path
    from dashboard.server import serve
    serve(Path(sys.argv[1]), port=int(sys.argv[2]), open_browser=False, announce=lambda text: print(text, flush=True))
"""


def test_the_dashboard_serves_them_beside_healthz_under_its_guard(tmp_path):
    run("""
        import sys
        from pathlib import Path
        from log_samples import decision
        from router.log.spool import Spool
        spool = Spool(Path(sys.argv[1]))
        spool.drop("queue full", 4)
        for n in range(3):
            spool.append(decision(n))
    """, tmp_path)  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        wanted = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE), str(tmp_path), str(wanted)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
    )  # fmt: skip
    try:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())[1])

        def get(host: str | None = None) -> tuple[http.client.HTTPResponse, str]:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", "/metrics", headers={"Host": host} if host else {})
                reply = connection.getresponse()
                return reply, reply.read().decode()

        reply, text = get()
        assert reply.status == 200
        assert reply.getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        assert reply.getheader("x-content-type-options") == "nosniff"
        found = samples(text)
        assert found["routescope_decisions"] == 3
        assert found['routescope_records_dropped_total{reason="queue full"}'] == 4
        assert sum(n for name, n in found.items() if name.startswith("routescope_owner_state")) == 1
        assert get("evil.test")[0].status == 421
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        server.stdout.close()


@pytest.mark.parametrize("broken", [True, False])
def test_doctor_tells_privacy_durability_and_unreported_drops(tmp_path, broken):
    (tmp_path / "policy.toml").write_text(
        Policy.preset("seed").to_toml().replace(
            "[[labels]]", '[log]\nprompts = "truncated:500"\nredact = "packaged"\ndurability = "async"\n\n[[labels]]', 1
        )
    )  # fmt: skip
    spool = Spool(tmp_path)
    spool.append(decision())
    if broken:
        spool.drop("No space left on device", 2)
    done = subprocess.run(
        [sys.executable, "-m", "router.cli", "doctor", "--json", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    found = {(x["about"], x["state"]): x["text"] for x in json.loads(done.stdout)["findings"]}
    assert found["privacy", "ok"] == (
        "prompts are stored up to 500 characters, keys and common personal data taken out first"
    )
    assert found["durability", "ok"].startswith("async: a decision is written within 20 ms")
    if broken:
        assert found["drops", "fail"].startswith(
            "2 decisions could not be written (No space left on device; not in the"
        )
    else:
        assert found["drops", "ok"] == "none"
    spool.close()
