"""Saved views: a page and its address under a name, through the log and back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest
from test_pages import APP, words, write_log

from dashboard import loaders, saved_views, state
from dashboard.writing import close_writers
from router.log import open_log, views
from router.log.record import view_payload
from router.log.spool import Spool

NOON = datetime(2026, 11, 20, 12)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    state.configure(state.Settings(folder))
    write_log(folder, 20)
    yield folder
    loaders.close_readers()
    close_writers()
    state.configure(None)


def opened(query: dict[str, str | list[str]] | None = None) -> AppTest:
    test = AppTest.from_file(APP, default_timeout=60)
    for key, value in (query or {}).items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def save(test: AppTest, name: str) -> AppTest:
    test.text_input(key=saved_views.NAME).set_value(name).run()
    test.button(key="view_save").click().run()
    assert not test.exception
    return test


def held(data: Path) -> list[tuple[str, str, str | None]]:
    close_writers()
    with open_log(data) as log:
        return sorted((x.name, x.page, x.query) for x in views.newest(log))


def removes(test: AppTest) -> list[str]:
    return [x.key.removeprefix("view_remove_") for x in test.button if str(x.key).startswith("view_remove_")]


def test_a_view_is_kept_with_its_whole_address_and_the_last_word_counts(data: Path) -> None:
    test = opened({"range": "7d", "label": ["coding", "simple"], "t": "0.64"})
    assert "under a name" in words(test)
    save(test, "  coding   and simple ")
    assert removes(test) == ["coding and simple"], "at once, whatever the log shows"
    assert test.text_input(key=saved_views.NAME).value == ""
    [(name, page, query)] = held(data)
    assert (name, page) == ("coding and simple", "overview")
    kept = parse_qs(query or "")
    assert kept["range"] == ["7d"] and kept["label"] == ["coding", "simple"] and float(kept["t"][0]) == 0.64
    time.sleep(loaders.REFRESH_SECONDS)
    other = opened({"range": "All"})
    assert removes(other) == ["coding and simple"], "for everybody else too"
    save(other, "coding and simple")
    assert "7d" not in str(held(data)[0][2]), "the same name is given the new view"
    other.button(key="view_remove_coding and simple").click().run()
    assert removes(other) == []
    assert held(data) == [("coding and simple", "overview", None)]


@pytest.mark.parametrize("name", ["", "   ", "pay\u202etxt", "x" * 61])
def test_a_name_that_is_none_is_refused_in_words(data: Path, name: str) -> None:
    test = opened()
    if len(name) <= saved_views.LONGEST_NAME:
        save(test, name)
        assert "A view needs a name of 1 to 60 characters" in words(test)
    assert held(data) == []


def test_what_is_no_view_of_ours_is_left_out(data: Path) -> None:
    hostile = "![x](http://127.0.0.1/x.png) **b**"
    spool = Spool(data)
    spool.append(view_payload(hostile, "threshold", "t=0.7", NOON))
    spool.append(view_payload("nowhere", "secrets", "", NOON))
    spool.append(view_payload("old", "labels", "range=All", NOON))
    spool.append(view_payload("old", "labels", None, NOON + timedelta(seconds=1)))
    spool.close()
    test = opened()
    assert removes(test) == [hostile]


def test_a_view_that_cannot_be_written_is_said_and_not_shown(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = opened()
    monkeypatch.setattr("router.log.writer.Writer.append", lambda self, record: False)
    save(test, "lost")
    assert "could not be written to the data folder" in words(test)
    assert removes(test) == []
