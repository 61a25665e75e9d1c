"""The dashboard's server: a real process on loopback, its headers, its owner, its errors."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import server, state
from router import Classification, LogTooNew, Policy, Router, open_log

START = """
import sys
from pathlib import Path
from dashboard.server import serve
serve(Path(sys.argv[1]), port=int(sys.argv[2]), open_browser=False, announce=lambda text: print(text, flush=True))
"""


class Fixed:
    """A classifier that always gives the same scores."""

    name = "fixed/1"

    def classify(self, text, labels):
        scores = {label.name: 0.1 for label in labels} | {"coding": 0.7}
        return Classification("coding", scores, self.name, True, 0.1)


def log_rows(data, number):
    with Router(Policy.preset("seed"), classifier=Fixed(), data=data) as client:
        for i in range(number):
            client.route(f"prompt {i}")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Address of a server whose wished port was taken, and its data folder."""
    data = tmp_path_factory.mktemp("data")
    with socket.socket() as taken:
        taken.bind((server.ADDRESS, 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(data), str(wanted)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        line = process.stdout.readline()
    port = int(re.search(r"http://127\.0\.0\.1:(\d+) ", line)[1])
    yield {"port": port, "line": line, "wanted": wanted, "data": data, "process": process}
    process.send_signal(signal.SIGINT)
    process.wait(20)
    process.stdout.close()


def get(port, path, host=None):
    with contextlib.closing(http.client.HTTPConnection(server.ADDRESS, port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Host": host} if host else {})
        reply = connection.getresponse()
        return reply, reply.read().decode()


def test_a_taken_port_gives_the_next_free_one_and_says_so(running):
    assert running["port"] > running["wanted"]
    assert f"(port {running['wanted']} is taken)" in running["line"]


@pytest.mark.parametrize("path", ["/", "/threshold", "/healthz", "/_stcore/health", "/nothing/here.js"])
def test_every_reply_carries_the_security_headers(running, path):
    reply, _ = get(running["port"], path)
    policy = dict(part.split(" ", 1) for part in reply.getheader("content-security-policy").split("; "))
    assert policy["default-src"] == policy["connect-src"] == "'self'"
    assert policy["script-src"].startswith("'self' blob: 'sha256-")
    assert "unsafe" not in policy["script-src"]
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert reply.getheader("x-content-type-options") == "nosniff"
    assert reply.getheader("referrer-policy") == "no-referrer"


def test_the_hash_in_the_policy_is_that_of_the_page_that_is_served(running):
    reply, page = get(running["port"], "/")
    hashes = server.inline_script_hashes(page)
    assert len(hashes) >= 1
    assert all(f"'sha256-{digest}'" in reply.getheader("content-security-policy") for digest in hashes)


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "localhost:80:80", "user@localhost"])
def test_a_foreign_host_name_is_refused(running, host):
    reply, body = get(running["port"], "/healthz", host)
    assert reply.status == 421
    assert "log" not in body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:8501"])
def test_our_own_host_names_are_served(running, host):
    assert get(running["port"], "/healthz", host)[0].status == 200


def test_the_owner_runs_inside_and_takes_what_another_process_logs(running):
    deadline = time.monotonic() + 20
    while json.loads(get(running["port"], "/healthz")[1])["log"] != "owning":
        assert time.monotonic() < deadline
    log_rows(running["data"], 3)
    running["process"].send_signal(signal.SIGINT)
    assert running["process"].wait(20) in (0, -signal.SIGINT, 130)
    with open_log(running["data"]) as log:
        assert log.mode == "file"
        assert log.count() == 3


def app(data, monkeypatch):
    monkeypatch.setenv("ROUTESCOPE_DATA", str(data))
    return AppTest.from_file(str(server.SCRIPT), default_timeout=30)


def test_an_unreadable_policy_is_a_written_state(tmp_path, monkeypatch):
    (tmp_path / "policy.toml").write_text("threshold = 2.0\nfallback_model = 'x'\nlabels = []\n")
    page = app(tmp_path, monkeypatch).run()
    assert not page.exception
    assert page.subheader[0].value.startswith("The policy cannot be read")
    assert "threshold: found 2.0" in page.code[0].value


def test_an_unknown_error_never_shows_its_message():
    def script():
        from dashboard import server
        from router import LogTooNew

        assert server.show_error(ValueError("the secret prompt")) is True
        server.show_error(LogTooNew("written by version 9; update"))

    page = AppTest.from_function(script).run()
    assert "ValueError" in page.markdown[0].value
    assert "secret" not in str([element.value for element in page.main if hasattr(element, "value")])
    assert "secret" not in page.markdown[0].value + page.subheader[0].value
    assert page.subheader[1].value == "Log too new\\."
    assert [code.value for code in page.code] == ["written by version 9; update"]
    assert issubclass(LogTooNew, Exception)


NOW = datetime(2026, 11, 25, 3, 17, 5)


@pytest.mark.parametrize(
    ("chosen", "zone", "start", "end"),
    [
        ("24h", UTC, datetime(2026, 11, 24, 3), None),
        ("7d", UTC, datetime(2026, 11, 19), None),
        (
            "30d",
            ZoneInfo("America/New_York"),
            datetime(2026, 10, 26, 4),
            None,
        ),  # still the 24th there, and summer time then
        ("All", UTC, None, None),
        ("Custom", ZoneInfo("Asia/Kathmandu"), datetime(2026, 11, 1, 18, 15), datetime(2026, 11, 3, 18, 15)),
    ],
)
def test_a_range_is_whole_days_of_the_zone_half_open_in_utc(chosen, zone, start, end):
    assert state.time_range(NOW, chosen, date(2026, 11, 2), date(2026, 11, 3), zone) == (start, end)
