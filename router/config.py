"""Paths, keys and endpoints. The only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from router.errors import ConfigurationError, MissingKeyError
from router.urls import EXPECTED, is_base_url, shown

PLACEHOLDER_KEY = "not-needed"
"""Sent to a compatible server that was named by its base URL and needs no key."""

KEY_VARIABLES = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "scaledown": ("SCALEDOWN_API_KEY", "SCALEDOWN_BASE_URL"),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is called and with which key. ``repr`` never shows the key, nor what of the URL may hold one."""

    provider: str
    key: str = field(repr=False)
    base_url: str | None = None

    def __repr__(self) -> str:
        where = "None" if self.base_url is None else repr(shown(self.base_url))
        return f"Endpoint(provider={self.provider!r}, base_url={where})"


def silence_telemetry() -> None:
    """Keep onnxruntime from reporting to its maker; call before it is imported.

    Its official builds open connections by default and keep a device id in the home folder. Nobody who routes prompts on
    this machine asked for that. A value that the user set stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def data_dir(data: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the policy and the log: the argument, else ``ROUTESCOPE_DATA``, else ``data`` here."""
    return Path(data if data is not None else os.environ.get("ROUTESCOPE_DATA") or "data")


def policy_path(policy: str | os.PathLike[str] | None, data: Path) -> Path | None:
    """Policy file to load: the argument, else ``<data>/policy.toml`` when it exists, else None."""
    if policy is not None:
        return Path(policy)
    path = data / "policy.toml"
    return path if path.exists() else None


def present_keys(environ: Mapping[str, str] | None = None) -> dict[str, dict[str, bool]]:
    """For each provider, whether its key and its base URL are set. Never the values."""
    env = os.environ if environ is None else environ
    return {
        name: {"key": bool((env.get(key) or "").strip()), "base_url": bool((env.get(url) or "").strip())}
        for name, (key, url) in KEY_VARIABLES.items()
    }


def endpoint(
    provider: str,
    base_url: str | None = None,
    key_env: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Endpoint:
    """Key and base URL of a provider, checked before any SDK is built.

    The environment's key belongs to the environment's host (or the provider's own). A ``base_url`` from the policy is
    another host: it gets the key that the policy names by ``key_env``, else a placeholder, never the provider's key.
    A base URL without a key gives a placeholder key, for local compatible servers.

    Raises
    ------
    MissingKeyError
        Neither key nor base URL; names the variable.
    ConfigurationError
        A key with characters that no HTTP header can carry (names the position, never the key), or a base URL
        that no client can be built on.
    """
    env = os.environ if environ is None else environ
    key_name, url_name = KEY_VARIABLES[provider]
    if base_url is not None and key_env is None:
        key_name = ""
    key_name = key_env or key_name
    key = (env.get(key_name) or "").strip() if key_name else ""
    url = base_url or (env.get(url_name) or "").strip() or None
    for position, char in enumerate(key, 1):
        if not 33 <= ord(char) <= 126:
            raise ConfigurationError(
                f"{key_name} has an illegal character at position {position}; a key is printable ASCII without "
                "spaces. Set it again and restart."
            )
    if not key and url is None:
        raise MissingKeyError(
            f"{key_name} is not set and neither is {url_name}; set {key_name} to call {provider} models, or "
            f"{url_name} to a compatible server."
        )
    if url is not None and not is_base_url(url):  # it is not repeated: a password in it would be shown
        raise ConfigurationError(
            f"the base URL of {provider} must be {EXPECTED}; correct {url_name} or base_url in the policy and restart."
        )
    return Endpoint(provider, key or PLACEHOLDER_KEY, url)
