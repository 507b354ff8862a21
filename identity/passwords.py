"""Password hashes: argon2id in a thread, a few at a time, the same work for unknown people."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from identity.model import normal_password
from identity.settings import Argon2Settings
from kit.errors import Busy

Result = TypeVar("Result")

# Without letters and digits that people mix up when they copy a note (0/O, 1/l/I).
_ONE_TIME_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class Passwords:
    """Hashes and checks passwords of one process."""

    def __init__(self, settings: Argon2Settings) -> None:
        self._settings = settings
        self._hasher = PasswordHasher(
            time_cost=settings.time_cost,
            memory_cost=settings.memory_cost_kib,
            parallelism=settings.parallelism,
            type=Type.ID,
        )
        self._turns = asyncio.Semaphore(settings.concurrency)
        self._waiting = 0
        # Checked in place of the hash of somebody who does not exist.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """The encoded hash.  Raises ``Busy`` when too many wait for their turn."""
        return await self._in_turn(lambda: self._hasher.hash(normal_password(password)))

    async def matches(self, stored_hash: str | None, password: str) -> bool:
        """Whether the password belongs to the hash; None takes as long and is never true.

        Raises ``Busy``.
        """
        candidate = normal_password(password)
        matched = await self._in_turn(lambda: self._check(stored_hash or self._nobody, candidate))
        return matched and stored_hash is not None

    def outdated(self, stored_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored_hash)

    def _check(self, stored_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_turn(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._settings.queue_max:
            raise Busy("Too many people are logging in; try again in a moment.", retry_after_s=2)
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def one_time_password() -> str:
    """16 characters in groups of four: 80 bits, and can be read out over a telephone."""
    groups = ("".join(secrets.choice(_ONE_TIME_ALPHABET) for _ in range(4)) for _ in range(4))
    return "-".join(groups)
