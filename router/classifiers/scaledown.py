"""ScaleDown's hosted classifier: ``POST /classify`` with a text and the labels' rubrics."""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from router import config
from router.elapsed import ms_since
from router.errors import ClassifierError, ClassifierTimeout, ConfigurationError, ScoresError
from router.providers.call import clean
from router.providers.deadline import Background, background, backoff_s, leave_behind, retry_after_s, run
from router.types import Classification, Label

BASE_URL = "https://api.scaledown.xyz"
MAX_REPLY_BYTES = 1_000_000
MAX_EXTRA_LABELS = 64
SCORE_TOLERANCE = 1e-9

FAILURES_TO_OPEN = 5
OPEN_S = 5.0
"""After so many failures in a row no call is made for so long: each would cost its whole deadline."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ClassifierError
    retriable: bool = False
    wait_s: float | None = None


class ScaleDownClassifier:
    """Scores a text by ScaleDown's ``/classify``; safe to share between threads.

    Parameters
    ----------
    api_key, base_url
        Else ``SCALEDOWN_API_KEY`` and ``SCALEDOWN_BASE_URL``. A ``base_url`` given here never gets the environment's key:
        pass its own, or none for a server that needs none.
    timeout_s
        Longest wait for a connection, in seconds.
    deadline_s
        Longest time for a whole classification, attempts and waiting included, whatever the server does.
    retries
        Further attempts after 429, 5xx and connection failures, while the deadline allows.
    price_per_call
        In USD; without it the cost of a classification is unknown.
    transport
        An ``httpx`` asynchronous transport, for tests.

    Raises
    ------
    MissingKeyError
        Neither key nor base URL.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout_s: float = 2.0,
        deadline_s: float = 5.0,
        retries: int = 1,
        price_per_call: Decimal | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not timeout_s > 0 or not deadline_s > 0 or retries < 0:
            raise ConfigurationError("timeout_s and deadline_s must be above 0 and retries 0 or more")
        self._endpoint = _endpoint(api_key, base_url)
        root = (self._endpoint.base_url or BASE_URL).rstrip("/")
        self._url = root if root.endswith("/classify") else root + "/classify"
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._attempts = retries + 1
        self._price = price_per_call
        self._transport = transport
        self._breaker = _Breaker(clock)
        self._built = (background(), self._build())

    def __repr__(self) -> str:
        return f"ScaleDownClassifier({self._url!r})"

    @property
    def name(self) -> str:
        """As written to every decision."""
        return "scaledown"

    def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """Score ``text`` against the labels; ``calibrated`` is False, scores are as the service gave them.

        Raises
        ------
        ClassifierTimeout
            No whole reply within the deadline.
        ScoresError
            A label without a score, or a score that is no number in [0, 1].
        ClassifierError
            Any other failure. No message holds the text or the key.
        """
        started = time.monotonic()
        self._check(labels)
        deadline = started + self._deadline_s
        answer = run(self._ask(_request(text, labels), deadline), deadline, self._late)
        return self._classification(answer, labels, started)

    async def aclassify(self, text: str, labels: Sequence[Label]) -> Classification:
        """``classify`` for asyncio: it takes no thread, however many calls wait at once."""
        started = time.monotonic()
        self._check(labels)
        future = background().submit(self._ask(_request(text, labels), started + self._deadline_s))
        return self._classification(await asyncio.wrap_future(future), labels, started)

    def _check(self, labels: Sequence[Label]) -> None:
        if not labels:
            raise ClassifierError("there are no labels to choose from; a policy has at least one")
        if not self._breaker.allows():
            raise ClassifierError(
                f"ScaleDown failed {FAILURES_TO_OPEN} times in a row and is left alone for {OPEN_S:g} s; "
                "check its status and SCALEDOWN_BASE_URL."
            )

    def _classification(self, answer: Any, labels: Sequence[Label], started: float) -> Classification:
        self._breaker.note(failed=isinstance(answer, _Failed) and answer.retriable)
        if isinstance(answer, _Failed):
            raise answer.error
        scores, reported = read_reply(answer, [label.name for label in labels])
        top = max((label.name for label in labels), key=lambda name: scores[name])
        return Classification(
            top_label=top,
            scores=scores,
            classifier=self.name,
            calibrated=False,
            latency_ms=ms_since(started),
            cost_usd=self._price,
            reported_top_label=reported if reported != top else None,
        )

    def close(self) -> None:
        """Give back the connections. Idempotent."""
        home, client = self._built
        if home is background():
            run(client.aclose(), time.monotonic() + 1.0, lambda: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _build(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={
                "x-api-key": self._endpoint.key,
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",  # a packed reply could unpack to any size
            },
            follow_redirects=False,
            transport=self._transport,
        )

    def _client(self) -> httpx.AsyncClient:
        here: Background = background()
        if self._built[0] is not here:  # a forked child: the parent's connections are not ours
            leave_behind(self._built)
            self._built = (here, self._build())
        return self._built[1]

    def _late(self) -> _Failed:
        return _Failed(
            ClassifierTimeout(
                f"ScaleDown gave no whole reply within {self._deadline_s:g} s; try again or raise deadline_s."
            ),
            retriable=True,
        )

    async def _ask(self, content: bytes, deadline: float) -> Any:
        """The decoded reply, or a ``_Failed``: raising here would chain exceptions that hold the request."""
        try:
            async with asyncio.timeout_at(deadline):
                attempt = 0
                while True:
                    attempt += 1
                    answer = await self._once(content, deadline)
                    if not isinstance(answer, _Failed) or not answer.retriable or attempt >= self._attempts:
                        return answer
                    wait = backoff_s(attempt, answer.wait_s, deadline - time.monotonic(), random.random())
                    if wait is None:
                        return answer
                    await asyncio.sleep(wait)
        except TimeoutError:
            return self._late()

    async def _once(self, content: bytes, deadline: float) -> Any:
        left = max(deadline - time.monotonic(), 0.0) + 1.0
        timeout = httpx.Timeout(left, connect=self._timeout_s)
        try:
            async with self._client().stream("POST", self._url, content=content, timeout=timeout) as response:
                if response.status_code != 200:
                    return _refusal(response)
                return await _body(response)
        except httpx.ConnectTimeout:
            return _Failed(
                ClassifierTimeout(f"ScaleDown took no connection within {self._timeout_s:g} s"), True
            )
        except (httpx.HTTPError, OSError) as error:
            return _Failed(ClassifierError(f"ScaleDown could not be reached ({type(error).__name__})"), True)
        except (httpx.InvalidURL, ValueError, RuntimeError) as error:  # RuntimeError: closed
            return _Failed(
                ClassifierError(f"ScaleDown could not be called ({type(error).__name__}); check its base URL")
            )


class _Breaker:
    """Lets no call through for a while after failures in a row; then one, whose end decides."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened = -math.inf

    def allows(self) -> bool:
        with self._lock:
            if self._failures < FAILURES_TO_OPEN:
                return True
            if self._clock() - self._opened < OPEN_S:
                return False
            self._opened = self._clock()
            return True

    def note(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            if failed:
                self._opened = self._clock()


def _endpoint(api_key: str | None, base_url: str | None) -> config.Endpoint:
    if api_key is None:
        return config.endpoint("scaledown", base_url)
    given = {"SCALEDOWN_API_KEY": api_key, "SCALEDOWN_BASE_URL": base_url or ""}
    return config.endpoint("scaledown", environ=given)


def _request(text: str, labels: Sequence[Label]) -> bytes:
    body = {"text": text, "labels": [{"name": label.name, "rubric": label.rubric} for label in labels]}
    return clean(json.dumps(body, ensure_ascii=False)).encode("utf-8")


def _refusal(response: httpx.Response) -> _Failed:
    status = response.status_code
    if status in (401, 403):
        return _Failed(ClassifierError(f"ScaleDown refused the key ({status}); check SCALEDOWN_API_KEY"))
    if response.is_redirect:
        host = urlsplit(response.headers.get("location", "")).hostname or "another path"
        return _Failed(
            ClassifierError(
                f"ScaleDown redirects ({status}) to {clean(host)[:80]}, which is not followed; set SCALEDOWN_BASE_URL"
            )
        )
    again = status == 429 or status >= 500
    why = {429: "too many requests; try later", 404: "no /classify there; check SCALEDOWN_BASE_URL"}
    text = why.get(status, "try later" if again else "the request was not accepted")
    return _Failed(
        ClassifierError(f"ScaleDown answered {status}: {text}"), again, retry_after_s(response.headers)
    )


async def _body(response: httpx.Response) -> Any:
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        return _Failed(
            ClassifierError("ScaleDown's reply is compressed, which was not asked for; it is not read")
        )
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            return _Failed(
                ClassifierError(f"ScaleDown's reply is larger than {MAX_REPLY_BYTES:,} bytes; it is not read")
            )
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        return _Failed(
            ClassifierError(
                f"ScaleDown's reply of {len(content):,} bytes is not JSON; check SCALEDOWN_BASE_URL"
            )
        )
    if not isinstance(reply, dict):
        return _Failed(
            ClassifierError(f"ScaleDown's reply is a {type(reply).__name__}, expected an object with scores")
        )
    return reply


def read_reply(reply: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, float], str | None]:
    """Scores by label, and the top label the reply states.

    Takes ``scores`` (name to score), ``labels`` (a list of ``{label, score}``) or both. Scores of other labels are kept
    behind those of ``names`` where they are valid.

    Raises
    ------
    ScoresError
        Names the labels that are missing or whose score is no number in [0, 1] (1e-9 over is clipped).
    """
    found: dict[str, Any] = {}
    listed = reply.get("labels")
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict) and isinstance(name := item.get("label", item.get("name")), str):
            found[name] = item.get("score")
    if isinstance(scores := reply.get("scores"), dict):
        found |= scores
    missing = [name for name in names if found.get(name) is None]
    if missing:
        raise ScoresError(
            f"ScaleDown's reply has no score for {', '.join(missing[:8])}; it has {len(found)} of {len(names)} labels"
        )
    valid = {name: score for name in found if (score := _score(found[name])) is not None}
    wrong = [name for name in names if name not in valid]
    if wrong:
        raise ScoresError(f"ScaleDown's score of {', '.join(wrong[:8])} is no number in [0, 1]")
    extra = [clean(name)[:64] for name in valid if name not in names][:MAX_EXTRA_LABELS]
    top = reply.get("top_label")
    kept = {name: valid[name] for name in names} | {name: valid[name] for name in extra if name in valid}
    return kept, clean(top)[:64] if isinstance(top, str) else None


def _score(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 <= value <= 1 + SCORE_TOLERANCE:  # false for NaN
        return None
    return min(float(value), 1.0)
