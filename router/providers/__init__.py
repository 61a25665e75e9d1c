"""Model providers behind one protocol. Nothing is imported until a provider is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.config import Endpoint
    from router.providers.base import Provider

__all__ = ["provider_for"]


def provider_for(name: str, endpoint: Endpoint) -> Provider:
    """The provider ``"openai"`` or ``"anthropic"`` at an endpoint; its SDK is imported here, not in the first call.

    Raises
    ------
    ConfigurationError
        Another name.
    """
    if name == "openai":
        from router.providers.openai import OpenAIProvider

        return OpenAIProvider(endpoint)
    if name == "anthropic":
        from router.providers.anthropic import AnthropicProvider

        return AnthropicProvider(endpoint)
    from router.errors import ConfigurationError

    raise ConfigurationError(f"no provider is called {name[:40]!r}; known: openai, anthropic")
