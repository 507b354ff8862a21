"""Every query of identity.  Functions take the transaction's connection and never commit, except
``add_guest``, which is one statement.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.model import Role, User
from identity.tables import refresh_tokens, users
from kit.db import Database
from kit.ids import new_id
from kit.sql import load

_LOCK_REFRESH_TOKEN = load("identity", "lock_refresh_token")
_OPEN_GUEST = load("identity", "open_guest")
_OPEN_SESSION = load("identity", "open_session")
_ROTATE = load("identity", "rotate")
_REVOKE_SESSIONS = load("identity", "revoke_sessions")
_DEAD_SESSIONS = load("identity", "dead_sessions")
_SWEEP_SESSIONS = load("identity", "sweep_sessions")


@dataclass(frozen=True, slots=True)
class Account:
    """A user with what log-in checks.  (*Account* here is the log-in, not a ledger's.)"""

    user: User
    password_hash: str | None
    disabled: bool


@dataclass(frozen=True, slots=True)
class PresentedRefreshToken:
    """The state of a refresh token that somebody presents."""

    session_id: str
    user_id: str
    used: bool
    just_used: bool
    revoked: bool
    expired: bool


async def add_user(
    conn: AsyncConnection,
    *,
    role: Role,
    name: str,
    email: str | None = None,
    password_hash: str | None = None,
    store_ids: tuple[str, ...] = (),
    city_ids: tuple[str, ...] = (),
    one_time_password: bool = False,
) -> str | None:
    """The id of the new user, or None if the e-mail address is taken."""
    user_id: str | None = await conn.scalar(
        upsert(users)
        .values(
            id=new_id("usr"),
            email=email,
            name=name,
            password_hash=password_hash,
            role=role.value,
            store_ids=list(store_ids),
            city_ids=list(city_ids),
            one_time_password=one_time_password,
            created_at=func.darkstore_now(),
        )
        .on_conflict_do_nothing(index_elements=[func.lower(users.c.email)])
        .returning(users.c.id)
    )
    return user_id


async def add_guest(
    database: Database, name: str, token_hash: bytes, life_s: float
) -> tuple[str, str]:
    """(user id, session id) of a new guest with an open session, committed."""
    user_id, session_id = new_id("usr"), new_id("ses")
    await database.pool.execute(
        _OPEN_GUEST.text, user_id, name, Role.GUEST.value, session_id, token_hash, float(life_s)
    )
    return user_id, session_id


async def account_by_email(conn: AsyncConnection, email: str) -> Account | None:
    """The account with this address, capital letters or not."""
    return await _account(conn, func.lower(users.c.email) == email.lower())


async def account_by_id(conn: AsyncConnection, user_id: str) -> Account | None:
    return await _account(conn, users.c.id == user_id)


async def _account(conn: AsyncConnection, wanted: ColumnElement[bool]) -> Account | None:
    row = (await conn.execute(select(users).where(wanted))).one_or_none()
    if row is None:
        return None
    user = User(
        id=row.id,
        role=Role(row.role),
        name=row.name,
        email=row.email,
        store_ids=tuple(row.store_ids),
        city_ids=tuple(row.city_ids),
        must_change_password=row.one_time_password,
    )
    return Account(user, row.password_hash, row.disabled_at is not None)


async def set_password(
    conn: AsyncConnection, user_id: str, password_hash: str, *, replacing: str | None
) -> bool:
    """Store a password that its owner chose; False if the hash was no longer ``replacing``."""
    result = await conn.execute(
        update(users)
        .where(users.c.id == user_id, users.c.password_hash == replacing)
        .values(password_hash=password_hash, one_time_password=False)
    )
    return result.rowcount == 1


async def rehash(conn: AsyncConnection, user_id: str, old_hash: str, new_hash: str) -> None:
    """Store the same password under today's parameters, unless it was changed meanwhile."""
    await conn.execute(
        update(users)
        .where(users.c.id == user_id, users.c.password_hash == old_hash)
        .values(password_hash=new_hash)
    )


async def open_session(
    conn: AsyncConnection, user_id: str, token_hash: bytes, life_s: float
) -> str:
    """The id of a new session, which lives for ``life_s`` virtual seconds."""
    session_id = new_id("ses")
    await _OPEN_SESSION.run(conn, session_id, user_id, token_hash, float(life_s))
    return session_id


async def lock_refresh_token(
    conn: AsyncConnection, token_hash: bytes, grace_s: float
) -> PresentedRefreshToken | None:
    """The token with its session, locked until the transaction ends; None if it never was.

    One that was used within the last ``grace_s`` virtual seconds is ``just_used``.
    """
    row = await _LOCK_REFRESH_TOKEN.first(conn, token_hash, float(grace_s))
    if row is None:
        return None
    return PresentedRefreshToken(
        session_id=row.session_id,
        user_id=row.user_id,
        used=row.used,
        just_used=row.just_used,
        revoked=row.revoked,
        expired=row.expired,
    )


async def unused_refresh_tokens(
    conn: AsyncConnection, token_hashes: Collection[bytes]
) -> set[bytes]:
    """Those that were issued and not used yet.  Whoever holds the session's lock may rely on it."""
    found = await conn.scalars(
        select(refresh_tokens.c.token_hash).where(
            refresh_tokens.c.token_hash.in_(token_hashes), refresh_tokens.c.used_at.is_(None)
        )
    )
    return {bytes(token_hash) for token_hash in found}


async def rotate(
    conn: AsyncConnection, old_hash: bytes, new_hash: bytes, session_id: str, life_s: float
) -> None:
    """Use up a refresh token, add its successor, prolong the session from now."""
    await _ROTATE.run(conn, old_hash, new_hash, session_id, float(life_s))


async def revoke_sessions(
    conn: AsyncConnection, user_id: str, session_id: str | None = None
) -> list[str]:
    """End one session of a user, or all; the ids of those that were alive."""
    return [row.id for row in await _REVOKE_SESSIONS.all(conn, user_id, session_id)]


async def dead_sessions(conn: AsyncConnection, session_ids: list[str]) -> set[str]:
    """Those of ``session_ids`` that have ended or never were."""
    return {row.id for row in await _DEAD_SESSIONS.all(conn, session_ids)}


async def sweep_sessions(conn: AsyncConnection, kept_s: float) -> int:
    """Forget up to 1000 sessions that expired ``kept_s`` virtual seconds ago; how many."""
    return (await _SWEEP_SESSIONS.run(conn, float(kept_s))).rowcount
