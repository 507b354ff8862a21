"""HTTP to a gateway: one keep-alive pool, deadlines, and retries where repeating is safe.

Shared by every gateway that lives behind a network, so that "what a failure proves" is decided in
one place: a request that never left proves that nothing happened, one that may have arrived proves
nothing.  aiohttp, because it is the cheapest of the well-kept clients (docs/decisions/0016).
Nothing here is logged but codes: neither paths, bodies nor headers, which carry tokens and keys.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec
import structlog
from yarl import URL

from payments.gateway import GatewayOutcome, OutcomeCode, OutcomeStatus

_log = structlog.get_logger(__name__)

Body = TypeVar("Body")
Parameters = Sequence[tuple[str, str]]

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_TOO_MANY_REQUESTS: Final = 429


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where a gateway is.  Seconds are real seconds; ``attempts`` counts the first one too."""

    base_url: str
    api_key: str = field(repr=False)
    connect_timeout_s: float = 2.0
    attempts: int = 3
    backoff_s: float = 0.15
    max_connections: int = 100

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("the provider's base_url is an http or https address")
        if self.attempts < 1 or self.backoff_s < 0 or self.connect_timeout_s <= 0:
            raise ValueError("attempts, back-off and time-out are not below their least")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """``repeatable``: the gateway does the work once however often the same bytes arrive."""

    method: str
    path: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer below 500 that is not a 429."""

    status: int
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def read(self, shape: type[Body]) -> Body | None:
        """The body in this shape, or None when it has another."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except msgspec.MsgspecError:
            return None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing that says what happened.  ``sent``: the request may have arrived."""

    code: OutcomeCode
    sent: bool

    def outcome(self, reference: str | None = None) -> GatewayOutcome:
        """For a request that would move money: unknown once it may have arrived."""
        status = OutcomeStatus.UNKNOWN if self.sent else OutcomeStatus.FAILED
        return GatewayOutcome(status, reference, self.code, "The provider did not answer.")

    def unread(self, reference: str | None = None) -> GatewayOutcome:
        """For a question: that it did not get through says nothing of the operation."""
        return GatewayOutcome(
            OutcomeStatus.UNKNOWN, reference, self.code, "The provider did not answer."
        )

    def unasked(self, reference: str | None = None) -> GatewayOutcome:
        """For a question that came before the operation: the operation itself was never sent."""
        return GatewayOutcome(
            OutcomeStatus.FAILED, reference, OutcomeCode.UNAVAILABLE, "The provider did not answer."
        )


def segment(identifier: str) -> str:
    """One path segment: ids come from the provider, and must not reach another path."""
    return quote(identifier, safe="")


def query(path: str, parameters: Parameters) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def form(parameters: Parameters) -> bytes:
    return urlencode(parameters).encode()


def post_json(
    path: str, body: object, headers: Mapping[str, str] | None = None, *,
    method: str = "POST", repeatable: bool = True,
) -> HttpRequest:  # fmt: skip
    return HttpRequest(
        method, path, msgspec.json.encode(body), _JSON, headers or {}, repeatable=repeatable
    )


def post_form(path: str, parameters: Parameters, headers: Mapping[str, str]) -> HttpRequest:
    return HttpRequest("POST", path, form(parameters), _FORM, headers)


class HttpTransport:
    """The connections of one gateway.  ``headers`` go with every request."""

    def __init__(self, name: str, settings: HttpSettings, headers: Mapping[str, str]) -> None:
        self._name = name
        self._settings = settings
        self._base_url = settings.base_url.rstrip("/")
        self._headers = {"User-Agent": "darkstore", **headers}
        self._opened: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def until(self, deadline_s: float) -> float:
        """The moment, by the event loop's clock, ``deadline_s`` from now."""
        return asyncio.get_running_loop().time() + deadline_s

    async def exchange(self, request: HttpRequest, until: float) -> HttpAnswer | NoAnswer:
        """Send, and again while that is safe and there is time before ``until``."""
        loop = asyncio.get_running_loop()
        sent = False
        code = OutcomeCode.UNAVAILABLE
        attempt = 0
        while attempt < self._settings.attempts and (remaining_s := until - loop.time()) > 0:
            attempt += 1
            answer = await self._attempt(request, remaining_s)
            if isinstance(answer, HttpAnswer):
                return answer
            sent = sent or answer.sent
            # An earlier try that may have arrived outweighs a later one that certainly did not.
            if answer.sent or not sent:
                code = answer.code
            pause_s = self._settings.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)
            final = attempt == self._settings.attempts or (sent and not request.repeatable)
            if final or loop.time() + pause_s >= until:
                break
            await asyncio.sleep(pause_s)
        _log.warning("payment_gateway_no_answer", gateway=self._name, code=code, attempts=attempt)
        return NoAnswer(code, sent)

    async def _attempt(self, request: HttpRequest, remaining_s: float) -> HttpAnswer | NoAnswer:
        # The connection gets less than all, so that a host which cannot be reached is known as
        # such before the deadline blurs it into a time-out.
        connect_s = min(self._settings.connect_timeout_s, 0.8 * remaining_s)
        timeout = aiohttp.ClientTimeout(
            total=remaining_s, connect=connect_s, sock_connect=connect_s
        )
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            async with self._session().request(
                request.method, URL(self._base_url + request.path, encoded=True),
                data=request.body, headers=headers, timeout=timeout, allow_redirects=False,
            ) as response:  # fmt: skip
                body = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return NoAnswer(OutcomeCode.UNAVAILABLE, sent=False)
        except TimeoutError:
            return NoAnswer(OutcomeCode.TIMEOUT, sent=True)
        except aiohttp.ClientError:
            return NoAnswer(OutcomeCode.NO_ANSWER, sent=True)
        if response.status == _TOO_MANY_REQUESTS:
            return NoAnswer(OutcomeCode.RATE_LIMITED, sent=False)
        if response.status >= 500:
            return NoAnswer(OutcomeCode.NO_ANSWER, sent=True)
        return HttpAnswer(response.status, body)

    def _session(self) -> aiohttp.ClientSession:
        # Made at first use, because aiohttp wants the loop to run already.
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.max_connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
            )
        return self._opened
