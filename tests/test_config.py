"""Where things are and which key goes to whom."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from router import config
from router.errors import ConfigurationError, MissingKeyError

KEY = "sk-" + "0123456789abcdef" * 2


def test_the_data_folder_is_the_argument_then_the_environment_then_data(monkeypatch):
    assert config.data_dir() == Path("data")
    monkeypatch.setenv("ROUTESCOPE_DATA", "/somewhere")
    assert config.data_dir() == Path("/somewhere")
    assert config.data_dir("mine") == Path("mine")


def test_the_policy_is_the_argument_then_the_folders_own_then_none(tmp_path):
    assert config.policy_path(None, tmp_path) is None
    (tmp_path / "policy.toml").write_text("")
    assert config.policy_path(None, tmp_path) == tmp_path / "policy.toml"
    assert config.policy_path("other.toml", tmp_path) == Path("other.toml")


def test_a_data_folder_that_is_a_file_has_no_policy(tmp_path):
    (tmp_path / "data").write_text("x")
    assert config.policy_path(None, tmp_path / "data") is None


@pytest.mark.parametrize(
    ("environ", "base_url", "key_env", "expected"),
    [
        pytest.param({"OPENAI_API_KEY": KEY}, None, None, (KEY, None), id="a key alone"),
        pytest.param({"OPENAI_API_KEY": f" {KEY}\n"}, None, None, (KEY, None), id="white space around it"),
        pytest.param(
            {"OPENAI_BASE_URL": "http://localhost:1"},
            None,
            None,
            ("not-needed", "http://localhost:1"),
            id="a base URL alone",
        ),
        pytest.param(
            {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://h"}, None, None, (KEY, "http://h"), id="both"
        ),
        pytest.param(
            {"OPENAI_API_KEY": KEY},
            "http://other",
            None,
            ("not-needed", "http://other"),
            id="another host never gets the provider's key",
        ),
        pytest.param(
            {"OPENAI_API_KEY": KEY, "MINE": "m-1"},
            "http://other",
            "MINE",
            ("m-1", "http://other"),
            id="another host gets the key that is named for it",
        ),
        pytest.param({"MINE": "m-1"}, None, "MINE", ("m-1", None), id="a named key for the provider itself"),
    ],
)
def test_which_key_goes_where(environ, base_url, key_env, expected):
    found = config.endpoint("openai", base_url, key_env, environ)
    assert (found.key, found.base_url) == expected


@pytest.mark.parametrize("provider", ["openai", "anthropic", "scaledown"])
@pytest.mark.parametrize(
    "environ", [{}, {"OPENAI_API_KEY": " ", "ANTHROPIC_API_KEY": "", "SCALEDOWN_API_KEY": ""}]
)
def test_without_key_and_base_url_both_variables_are_named(provider, environ):
    with pytest.raises(MissingKeyError) as error:
        config.endpoint(provider, environ=environ)
    assert all(name in str(error.value) for name in config.KEY_VARIABLES[provider])


@pytest.mark.parametrize("bad", ["sk-a b", "sk-\u2013x", "sk-\x00", "sk-a\nb", "sk-\udc80"])
def test_a_key_no_header_can_carry_is_named_by_position_never_shown(bad):
    with pytest.raises(
        ConfigurationError, match="OPENAI_API_KEY has an illegal character at position"
    ) as error:
        config.endpoint("openai", environ={"OPENAI_API_KEY": bad})
    assert bad not in str(error.value)


@pytest.mark.parametrize("url", [
        "localhost:8000", "ftp://host", "http://user:secret@host", "//host", "http://host:65536", "http://host:0",
        "http://host:port/v1", "http://[::1", "http://[::1]x", "http://[1.2.3.4]", "http://999.1.1.1", "http://ex\u200bample.com",
        "http://a..b", "http://-a", "http://٣.٣.٣.٣", "http://xn--a.de", "http://" + "a." * 130 + "de", "http://host/\x7f", "http://%zz",
    ],
)  # fmt: skip
def test_a_base_url_that_cannot_be_used_is_refused_without_showing_it(url):
    with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL") as error:
        config.endpoint("openai", environ={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000", "https://api.example.com/v1?x=1", "http://[::1]:8000/v1", "http://10.0.0.1", "http://a_b/", "http://ü.de",
        "http://xn--bcher-kva.example./v1", "http://host:65535", "http://उदाहरण.परीक्षा/v1", "http://இலங்கை.com",
    ],
)  # fmt: skip
def test_a_client_is_built_on_what_is_taken_for_a_base_url(url):
    assert config.endpoint("openai", environ={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}).base_url == url
    with openai.OpenAI(api_key=KEY, base_url=url) as client:
        assert client._client.build_request("GET", client.base_url).url.host


def test_what_is_no_url_is_not_shown_at_all():
    for text in ("user:secret@host/v1", "http:user:secret@host", "http:/u:secret@h/"):
        assert repr(config.Endpoint("openai", KEY, text)) == "Endpoint(provider='openai', base_url='...')"


def test_neither_repr_nor_presence_shows_a_key():
    environ = {"OPENAI_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://x"}
    assert KEY not in repr(config.endpoint("openai", environ=environ))
    assert KEY not in repr(config.present_keys(environ))
    hidden = config.Endpoint("openai", KEY, f"https://me:{KEY}@host:8000/v1/x?api-key={KEY}&v=2#{KEY}")
    assert repr(hidden) == "Endpoint(provider='openai', base_url='https://...@host:8000/v1/x?...#...')"
    assert (
        repr(config.Endpoint("openai", KEY, "http://[::1")) == "Endpoint(provider='openai', base_url='...')"
    )
    assert repr(config.Endpoint("openai", KEY)) == "Endpoint(provider='openai', base_url=None)"
    assert config.present_keys(environ)["openai"] == {"key": True, "base_url": False}
    assert config.present_keys(environ)["anthropic"] == {"key": False, "base_url": True}
