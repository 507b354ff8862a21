"""How every simulated app calls the server: log-in, refresh, and one layer of retries.

A call goes on through killed servers and lost answers until its patience ends: network failures,
503, 429, 409 ``idempotency_in_progress`` and internal errors are tried again with the same
``Idempotency-Key``, with back-off and jitter.  Everything else is an answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kit.clock import Clock
from simulator.http_client import HttpClient, HttpFailure, Response
from simulator.tally import Tally

# An access token lives 15 virtual minutes; it is renewed when this much is left.
RENEW_BEFORE_S: Final = 180.0
# Real seconds: a server that was killed is back long before.
PATIENCE_S: Final = 120.0
_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 3.0
_INTERNAL_ERRORS_BORNE: Final = 3

# JSON as it comes off the wire: its shape is the server's contract, checked where it is used.
Json = dict[str, Any]


class Unreachable(Exception):
    """The server gave no usable answer for as long as anybody would wait."""


class LoggedOut(Exception):
    """The session has ended and nobody can open it again (a guest has no password)."""


class Refused(Exception):
    """An answer that the actor has no plan for; ``reply`` is the problem."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.code}: {reply.data.get('detail', '')}")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Reply:
    """``data`` is the JSON body; ``code`` names the problem, None for a success."""

    status: int
    data: Json
    code: str | None

    @property
    def ok(self) -> bool:
        return self.code is None

    def must(self) -> Json:
        """The body of a success.  Raises Refused."""
        if self.code is not None:
            raise Refused(self)
        return self.data


@dataclass(frozen=True, slots=True)
class Api:
    """What all sessions share."""

    http: HttpClient
    clock: Clock
    tally: Tally

    async def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        key: str | None = None,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> Reply:
        """One call with its retries.  Raises Unreachable."""
        headers = {} if key is None else {"Idempotency-Key": key}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        encoded = None if body is None else orjson.dumps(body)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + patience_s
        attempt = internal_errors = 0
        while True:
            wait_s = 0.0
            try:
                response = await self.http.request(method, path, headers=headers, body=encoded)
            except HttpFailure as failure:
                problem = str(failure)
            else:
                reply = _reply(response)
                if reply.code is not None:
                    self.tally.problem(reply.status, reply.code, method, path)
                internal_errors += reply.status >= 500 and reply.status != 503
                if not _again(reply) or internal_errors > _INTERNAL_ERRORS_BORNE:
                    return reply
                problem = str(reply.code)
                wait_s = float(response.headers.get("retry-after", 0))
            attempt += 1
            backoff_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**attempt)
            wait_s = max(wait_s, backoff_s) * random.uniform(0.5, 1.0)
            if loop.time() + wait_s > deadline_s:
                raise Unreachable(f"{method} {path}: {problem}")
            await asyncio.sleep(wait_s)


def _reply(response: Response) -> Reply:
    try:
        data = orjson.loads(response.body) if response.body else {}
    except orjson.JSONDecodeError:
        data = {}
    if not isinstance(data, dict):
        data = {"items": data}
    if response.status < 400:
        return Reply(response.status, data, None)
    return Reply(response.status, data, str(data.get("code", f"http_{response.status}")))


def _again(reply: Reply) -> bool:
    return (
        reply.status in (429, 503) or reply.status >= 500 or reply.code == "idempotency_in_progress"
    )


class Session:
    """Somebody who is logged in; ``open_guest``, ``open_registered`` or ``log_in`` first."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.user: Json = {}
        self._access_token = ""
        self._refresh_token = ""
        self._expires_s = 0.0
        self._credentials: Mapping[str, str] | None = None
        self._renewing = asyncio.Lock()

    async def open_guest(self) -> None:
        """A new guest."""
        self._take((await self.api.call("POST", "/v1/auth/guest")).must())

    async def open_registered(self, email: str, password: str, name: str) -> None:
        """A new customer; one whose first try was answered into the void logs in."""
        self._credentials = {"email": email, "password": password}
        body = {**self._credentials, "name": name}
        reply = await self.api.call("POST", "/v1/auth/register", body)
        if reply.code == "email_taken":
            await self.log_in(email, password)
        else:
            self._take(reply.must())

    async def log_in(self, email: str, password: str) -> None:
        """Somebody with a password."""
        self._credentials = {"email": email, "password": password}
        self._take((await self.api.call("POST", "/v1/auth/login", dict(self._credentials))).must())

    async def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        key: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> Reply:
        """A call of this user.  Raises Unreachable, LoggedOut."""
        await self._renew_if_due()
        for _ in range(2):
            token = self._access_token
            reply = await self.api.call(
                method, path, body, key=key, token=token, patience_s=patience_s
            )
            if reply.status != 401:
                return reply
            await self._renew(token)
        return reply

    async def get(self, path: str) -> Json:
        """The body of a successful GET.  Raises Refused, Unreachable, LoggedOut."""
        return (await self.call("GET", path)).must()

    async def _renew_if_due(self) -> None:
        if self.api.clock.now_s() > self._expires_s - RENEW_BEFORE_S:
            await self._renew(self._access_token)

    async def _renew(self, stale_token: str) -> None:
        """A new pair of tokens, once for all who found ``stale_token`` stale."""
        async with self._renewing:
            if self._access_token != stale_token:
                return
            body = {"refresh_token": self._refresh_token}
            reply = await self.api.call("POST", "/v1/auth/refresh", body)
            if reply.ok:
                self._take(reply.data)
            elif self._credentials is not None:
                # Retried too late after its answer was lost, a refresh ends the session.
                await self.log_in(self._credentials["email"], self._credentials["password"])
            else:
                raise LoggedOut(str(reply.code))

    def _take(self, tokens: Json) -> None:
        self._access_token = tokens["access_token"]
        self._refresh_token = tokens["refresh_token"]
        self._expires_s = self.api.clock.now_s() + tokens["expires_in_s"]
        self.user = tokens["user"]
