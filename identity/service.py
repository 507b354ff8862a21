"""Use cases of identity: register, log in, refresh, log out, change a password, create staff.

Hashing takes tens of milliseconds and therefore happens outside of transactions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from identity import repository
from identity.errors import (
    CredentialsWrong,
    EmailTaken,
    SessionRevoked,
    TokenExpired,
    TokenInvalid,
)
from identity.model import (
    PASSWORD_MAX_CHARACTERS,
    STAFF,
    Actor,
    Role,
    User,
    parse_email,
    parse_name,
    parse_password,
)
from identity.passwords import Passwords, one_time_password
from identity.settings import IdentitySettings
from identity.tokens import RefreshToken, Tokens, new_refresh_token, refresh_hash
from kit.clock import Clock
from kit.db import Database
from kit.redis import line_of

log = structlog.get_logger(__name__)

GUEST_NAME = "Guest"
# How long an expired session is kept: a token that comes back late is then still *expired*.
SESSIONS_KEPT_S = 24 * 3600.0
# Real seconds for which a session that was found alive is not asked about again.  Revocation has
# to reach everybody within 5 s; asking each time is a statement a request.
TRUSTED_S = 2.0
TRUSTED_MAX = 20_000

RiderOf = Callable[[AsyncConnection, str], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class LogIn:
    """What a client gets: two tokens, the access token's virtual life, and who it is."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    user: User


@dataclass(frozen=True, slots=True)
class StaffLogIn:
    """How a new member of staff gets in.  ``password`` is shown once and stored as a hash."""

    user_id: str
    email: str
    password: str


def revoked_key(session_id: str) -> str:
    """The Redis key whose presence says that a session was revoked."""
    return f"revoked:{session_id}"


class Identity:
    """The use cases.  ``rider_of(conn, user_id)`` gives a user's rider id, which riders keep."""

    def __init__(
        self,
        settings: IdentitySettings,
        database: Database,
        redis: Redis,
        clock: Clock,
        rider_of: RiderOf,
    ) -> None:
        self.settings = settings
        self.tokens = Tokens(settings, clock)
        self.passwords = Passwords(settings.argon2)
        self._database = database
        self._redis = redis
        self._line = line_of(redis)
        self._clock = clock
        self._rider_of = rider_of
        # Until when (monotonic seconds) a session is taken for alive.
        self._trusted_until: dict[str, float] = {}

    async def register(self, *, email: str, password: str, name: str) -> LogIn:
        """A new customer, logged in.  Raises ``Invalid``, ``EmailTaken``, ``Busy``."""
        address, given_name = parse_email(email), parse_name(name)
        password_hash = await self.passwords.hash(parse_password(password))
        async with self._database.begin() as conn:
            user_id = await repository.add_user(
                conn,
                role=Role.CUSTOMER,
                name=given_name,
                email=address,
                password_hash=password_hash,
            )
            if user_id is None:
                raise EmailTaken("This e-mail address is in use; log in instead.")
            return await self._open(conn, User(user_id, Role.CUSTOMER, given_name, address))

    async def guest(self) -> LogIn:
        """A shopper without name or password, who lives as long as the session."""
        token = new_refresh_token()
        user_id, session_id = await repository.add_guest(
            self._database, GUEST_NAME, token.hash, self.settings.session_life_s
        )
        self._trust(session_id)
        user = User(user_id, Role.GUEST, GUEST_NAME, None)
        return self._with_access(user, session_id, token.text)

    async def log_in(self, *, email: str, password: str) -> LogIn:
        """Raises ``CredentialsWrong`` (unknown, disabled and wrong alike) and ``Busy``."""
        async with self._database.begin() as conn:
            account = await repository.account_by_email(conn, email.strip())
        stored_hash = None if account is None or account.disabled else account.password_hash
        candidate = password if len(password) <= PASSWORD_MAX_CHARACTERS else ""
        if not await self.passwords.matches(stored_hash, candidate):
            raise CredentialsWrong("E-mail or password is wrong.")
        assert account is not None
        assert stored_hash is not None
        new_hash = None
        if self.passwords.outdated(stored_hash):
            new_hash = await self.passwords.hash(candidate)
        async with self._database.begin() as conn:
            if new_hash is not None:
                await repository.rehash(conn, account.user.id, stored_hash, new_hash)
            return await self._open(conn, account.user)

    async def refresh(self, token: str) -> LogIn:
        """Exchange a refresh token for a new pair; each works once.

        A client that never got the answer may ask again for ``refresh_grace_s`` real seconds, as
        long as nobody has used what it was exchanged for, and gets the same.  A token that comes
        back at any other time was stolen before or after: nobody can tell, so the whole session
        ends.  Raises ``TokenInvalid``, ``TokenExpired``, ``SessionRevoked``.
        """
        old_hash = refresh_hash(token)
        grace_s = self.settings.refresh_grace_s * self._clock.speed
        async with self._database.begin() as conn:
            presented = await repository.lock_refresh_token(conn, old_hash, grace_s)
            if presented is None:
                raise TokenInvalid("This refresh token is not valid; log in again.")
            if presented.revoked:
                raise SessionRevoked("This session has ended; log in again.")
            if not presented.used:
                if presented.expired:
                    raise TokenExpired("This session has expired; log in again.")
                return await self._rotate(conn, presented, token)
            if presented.just_used and not presented.expired:
                told_again = await self._told_again(conn, presented, token)
                if told_again is not None:
                    return told_again
            await repository.revoke_sessions(conn, presented.user_id, presented.session_id)
        # The revocation above is committed; only then may anything be raised.
        log.warning("refresh_token_reused", session_id=presented.session_id)
        await self._announce_revoked([presented.session_id])
        raise SessionRevoked("This refresh token was used before; log in again.")

    async def log_out(self, actor: Actor) -> None:
        """End the actor's session, everywhere within the life of a socket's check."""
        async with self._database.begin() as conn:
            await repository.revoke_sessions(conn, actor.user_id, actor.session_id)
        await self._announce_revoked([actor.session_id])

    async def change_password(self, actor: Actor, *, current: str, new: str) -> LogIn:
        """Set a password, end all sessions of the user and open a new one.

        Raises ``CredentialsWrong``, ``Invalid``, ``Busy``.
        """
        wanted = parse_password(new, "new_password")
        async with self._database.begin() as conn:
            account = await repository.account_by_id(conn, actor.user_id)
        stored_hash = None if account is None else account.password_hash
        if not await self.passwords.matches(stored_hash, current[:PASSWORD_MAX_CHARACTERS]):
            raise CredentialsWrong("The current password is wrong.")
        assert account is not None
        new_hash = await self.passwords.hash(wanted)
        async with self._database.begin() as conn:
            if not await repository.set_password(
                conn, actor.user_id, new_hash, replacing=stored_hash
            ):
                raise CredentialsWrong("The password was changed meanwhile; log in again.")
            ended = await repository.revoke_sessions(conn, actor.user_id)
            log_in = await self._open(conn, replace(account.user, must_change_password=False))
        await self._announce_revoked(ended)
        return log_in

    async def user(self, actor: Actor) -> User:
        """The actor's user as it is now.  Raises ``SessionRevoked`` if there is none."""
        async with self._database.begin() as conn:
            account = await repository.account_by_id(conn, actor.user_id)
            if account is None:
                raise SessionRevoked("This account is gone; log in again.")
            return replace(account.user, rider_id=await self._rider_id(conn, account.user))

    async def authenticate(self, token: str) -> Actor:
        """The actor of an access token whose session lives.

        What another process revokes is known here ``TRUSTED_S`` later, what this one revokes at
        once.  Raises ``TokenInvalid``, ``TokenExpired``, ``SessionRevoked``.
        """
        actor = self.tokens.verify(token)
        if self._trusted_until.get(actor.session_id, 0.0) < time.monotonic():
            if not await self.session_alive(actor.session_id):
                raise SessionRevoked("This session has ended; log in again.")
            self._trust(actor.session_id)
        return actor

    def _trust(self, session_id: str) -> None:
        if len(self._trusted_until) >= TRUSTED_MAX:
            self._trusted_until.clear()
        self._trusted_until[session_id] = time.monotonic() + TRUSTED_S

    async def session_alive(self, session_id: str) -> bool:
        """Whether the session was not revoked."""
        return not await self.revoked([session_id])

    async def revoked(self, session_ids: Collection[str]) -> set[str]:
        """Those sessions that were revoked within the life of an access token.

        Asks Redis, in one round trip; without Redis, Postgres.
        """
        ids = list(session_ids)
        if not ids:
            return set()
        try:
            marks = await self._line.send("MGET", *(revoked_key(one) for one in ids))
        except RedisError as error:
            log.warning("revocations_from_database", error=type(error).__name__)
            async with self._database.begin() as conn:
                return await repository.dead_sessions(conn, ids)
        return {one for one, mark in zip(ids, marks, strict=True) if mark is not None}

    async def _rotate(
        self,
        conn: AsyncConnection,
        presented: repository.PresentedRefreshToken,
        token: str,
    ) -> LogIn:
        successor = self.tokens.successor(token)
        await repository.rotate(
            conn, refresh_hash(token), successor.hash, presented.session_id,
            self.settings.session_life_s,
        )  # fmt: skip
        return await self._goes_on(conn, presented, successor)

    async def _told_again(
        self, conn: AsyncConnection, presented: repository.PresentedRefreshToken, token: str
    ) -> LogIn | None:
        """The successor that was issued already; None once somebody has used it."""
        successors = self.tokens.successors(token)
        unused = await repository.unused_refresh_tokens(conn, [one.hash for one in successors])
        for successor in successors:
            if successor.hash in unused:
                log.info("refresh_told_again", session_id=presented.session_id)
                return await self._goes_on(conn, presented, successor)
        return None

    async def _goes_on(
        self,
        conn: AsyncConnection,
        presented: repository.PresentedRefreshToken,
        successor: RefreshToken,
    ) -> LogIn:
        account = await repository.account_by_id(conn, presented.user_id)
        assert account is not None, "a session has a user, by foreign key"
        return await self._log_in(conn, account.user, presented.session_id, successor.text)

    async def _open(self, conn: AsyncConnection, user: User) -> LogIn:
        token = new_refresh_token()
        session_id = await repository.open_session(
            conn, user.id, token.hash, self.settings.session_life_s
        )
        return await self._log_in(conn, user, session_id, token.text)

    async def _log_in(
        self, conn: AsyncConnection, user: User, session_id: str, refresh_token: str
    ) -> LogIn:
        user = replace(user, rider_id=await self._rider_id(conn, user))
        return self._with_access(user, session_id, refresh_token)

    def _with_access(self, user: User, session_id: str, refresh_token: str) -> LogIn:
        actor = Actor(
            user_id=user.id,
            role=user.role,
            session_id=session_id,
            store_ids=frozenset(user.store_ids),
            city_ids=frozenset(user.city_ids),
            rider_id=user.rider_id,
        )
        return LogIn(self.tokens.access(actor), refresh_token, self.settings.access_life_s, user)

    async def _rider_id(self, conn: AsyncConnection, user: User) -> str | None:
        return await self._rider_of(conn, user.id) if user.role is Role.RIDER else None

    async def _announce_revoked(self, session_ids: Collection[str]) -> None:
        """Mark sessions in Redis for as long as an access token of theirs can live.

        Without Redis the marks are missing, and such a token works on until it expires.
        """
        for session_id in session_ids:
            self._trusted_until.pop(session_id, None)
        life_s = self.settings.access_life_s
        seconds = math.ceil(max(life_s, self._clock.real_s(life_s))) + 5
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for session_id in session_ids:
                    pipeline.set(revoked_key(session_id), 1, ex=seconds)
                await pipeline.execute()
        except RedisError as error:
            log.warning("revocation_not_announced", error=type(error).__name__)


async def create_staff(
    conn: AsyncConnection,
    passwords: Passwords,
    *,
    role: Role,
    name: str,
    email: str,
    store_ids: Collection[str] = (),
    city_ids: Collection[str] = (),
    password: str | None = None,
) -> StaffLogIn:
    """A member of staff with a one-time password, which works until its owner changes it.

    Without ``password`` a random one is made.  Raises ``Invalid`` and ``EmailTaken``.
    """
    assert role in STAFF, "customers register themselves"
    address, given_name = parse_email(email), parse_name(name)
    password = one_time_password() if password is None else parse_password(password)
    user_id = await repository.add_user(
        conn,
        role=role,
        name=given_name,
        email=address,
        password_hash=await passwords.hash(password),
        store_ids=tuple(sorted(store_ids)),
        city_ids=tuple(sorted(city_ids)),
        one_time_password=True,
    )
    if user_id is None:
        raise EmailTaken("This e-mail address is in use.")
    return StaffLogIn(user_id, address, password)


async def sweep(conn: AsyncConnection) -> int:
    """Forget sessions that expired a day ago; how many went (1000 at most a call)."""
    return await repository.sweep_sessions(conn, SESSIONS_KEPT_S)
