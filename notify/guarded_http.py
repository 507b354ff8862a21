"""HTTP to addresses that outsiders chose, without letting them reach what only we can reach.

A name is resolved once, at the connection; every address that it stands for has to be a public
one, and the connection goes to the address that was looked at (a second look-up could answer
otherwise: DNS rebinding).  Redirects are not followed, proxies from the environment are not used,
and no more than a little of the answer is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpcore

from notify.errors import WebhookUrlRefused

URL_MAX_CHARACTERS: Final = 500
ANSWER_MAX_BYTES: Final = 2048
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(OSError):
    """The name stands for an address that is not public."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the headers that matter, and the beginning of the body."""

    status: int
    retry_after_s: float | None
    text: str


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public Internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def check_url(url: str, *, allow_private: bool) -> str:
    """The URL if something may be sent there.  Raises ``WebhookUrlRefused``.

    A name is only resolved when it is called: what it stands for can change at any time.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused("This is not a URL.") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if len(url) > URL_MAX_CHARACTERS or not url.isascii() or any(c <= " " for c in url):
        raise _refused("The URL is too long, or has characters that must be escaped.")
    if parts.scheme not in schemes or not parts.hostname:
        raise _refused("Give a whole https:// URL.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _refused("The URL may have no user, password or fragment.")
    if port is not None and port not in (80, 443) and port < 1024:
        raise _refused("Ports below 1024 other than 80 and 443 belong to other services.")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return url
    if not allow_private and not is_public(address):
        raise _refused("The address is not a public one.")
    return url


def _refused(detail: str) -> WebhookUrlRefused:
    return WebhookUrlRefused(detail, errors=[{"field": "url", "detail": detail}])


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves, looks, and connects to what it looked at."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (the signature is httpcore's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._vetted(host, port)
        return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("a local socket is nobody's webhook")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _vetted(self, host: str, port: int) -> str:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses:
            raise AddressRefused("the name stands for no address")
        # All of them: one private address among public ones is a trap, not a mistake.
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise AddressRefused("the name stands for an address that is not public")
        return str(addresses[0])


class GuardedHttp:
    """A pool of connections to receivers.  One for a process; close it at the end."""

    def __init__(self, *, allow_private: bool, connections: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=connections,
            keepalive_expiry=15.0,
            network_backend=_GuardedBackend(allow_private=allow_private),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.aclose()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, deadline_s: float
    ) -> Answer:
        """POST once.  Raises ``TimeoutError``, ``OSError`` and httpcore's errors; never follows."""
        async with asyncio.timeout(deadline_s):
            async with self._pool.stream(
                "POST", url, headers=list(headers.items()), content=body
            ) as response:
                read = b""
                async for chunk in response.aiter_stream():
                    read += chunk
                    if len(read) >= ANSWER_MAX_BYTES:
                        break
        named = {name.lower(): value for name, value in response.headers}
        return Answer(
            response.status,
            _seconds(named.get(b"retry-after")),
            read[:ANSWER_MAX_BYTES].decode("utf-8", "replace").replace("\x00", ""),
        )


def _seconds(value: bytes | None) -> float | None:
    """``Retry-After`` in seconds; a date is not worth a parser here."""
    return float(value) if value is not None and value.isdigit() and len(value) < 8 else None
