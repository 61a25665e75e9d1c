"""The caps on spend: a policy's ``[spend]`` table, or a router's arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from router.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SpendCaps:
    """Most that model calls may cost, in USD; None: no cap.

    ``per_day_usd`` holds for all processes with one data folder and one day (UTC) together, ``per_run_usd`` for one router.
    """

    per_day_usd: Decimal | None = None
    per_run_usd: Decimal | None = None

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return self.per_day_usd is not None or self.per_run_usd is not None

    def faults(self, where: str = "") -> Iterator[str]:
        """Everything wrong with the values, one sentence each."""
        for key in ("per_day_usd", "per_run_usd"):
            value = getattr(self, key)
            if value is not None and not (isinstance(value, Decimal) and value.is_finite() and value >= 0):
                yield f"{where}{key}: found {value!r}, expected USD, 0 or more"


def usd(value: Decimal | float | str, name: str) -> Decimal:
    """An amount of USD that a caller gave, exact as written.

    Raises
    ------
    ConfigurationError
        Not a number, or below 0; ``name`` says which argument.
    """
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"{name}: found {str(value)[:40]!r}, expected USD, 0 or more, like 0.50")
    return amount
