"""Log-ins, sessions and staff on a real database and a real Redis."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import select, text, update

from identity.errors import (
    CredentialsWrong,
    EmailTaken,
    SessionRevoked,
    TokenExpired,
    TokenInvalid,
)
from identity.model import Actor, Role
from identity.repository import account_by_id
from identity.service import TRUSTED_S, Identity, create_staff, revoked_key, sweep
from identity.settings import Argon2Settings
from identity.tables import refresh_tokens, sessions, users
from identity.tokens import refresh_hash
from kit.clock import Clock
from kit.db import Database
from kit.ids import new_id
from kit.redis import connect
from server.api.auth import rider_of
from tests.cities import CHEAP_ARGON2
from tests.http_support import identity_settings

PASSWORD = "correct horse battery"


def make(database: Database, redis: Redis, argon2: Argon2Settings = CHEAP_ARGON2) -> Identity:
    return Identity(identity_settings(argon2=argon2), database, redis, Clock(), rider_of)


@pytest.fixture
def identity(database: Database, redis: Redis) -> Identity:
    return make(database, redis)


def fresh_email() -> str:
    return f"{new_id('tst')}@Example.org"


async def stored_hash(database: Database, user_id: str) -> str:
    async with database.begin() as conn:
        found = await conn.scalar(select(users.c.password_hash).where(users.c.id == user_id))
    return cast(str, found)


async def test_register_then_log_in_in_any_capitals(identity: Identity) -> None:
    """One account for one address, however it is typed; the tokens prove that account."""
    email = fresh_email()
    first = await identity.register(email=email, password=PASSWORD, name=" Ana  Lima ")
    assert first.user.name == "Ana Lima"
    assert first.user.role is Role.CUSTOMER
    again = await identity.log_in(email=f" {email.upper()} ", password=PASSWORD)
    assert again.user.id == first.user.id
    actor = await identity.authenticate(again.access_token)
    assert actor == Actor(first.user.id, Role.CUSTOMER, actor.session_id)
    with pytest.raises(EmailTaken):
        await identity.register(email=email.lower(), password=PASSWORD, name="Bo")


async def test_one_address_registered_at_once_is_one_account(identity: Identity) -> None:
    """Ten people race for an address: one wins, nine are told so."""
    email = fresh_email()
    results = await asyncio.gather(
        *(identity.register(email=email, password=PASSWORD, name="Ana") for _ in range(10)),
        return_exceptions=True,
    )
    refusals = [one for one in results if isinstance(one, EmailTaken)]
    assert len(refusals) == 9


async def test_wrong_unknown_and_disabled_are_one_answer(
    identity: Identity, database: Database
) -> None:
    """Nobody learns from an answer whether an account exists."""
    email = fresh_email()
    user_id = (await identity.register(email=email, password=PASSWORD, name="Ana")).user.id
    details = set()
    for typed, password in ((email, "wrong horse"), (fresh_email(), PASSWORD), (email, "x" * 400)):
        with pytest.raises(CredentialsWrong) as refused:
            await identity.log_in(email=typed, password=password)
        details.add(refused.value.detail)
    async with database.begin() as conn:
        await conn.execute(
            update(users).where(users.c.id == user_id).values(disabled_at=text("darkstore_now()"))
        )
    with pytest.raises(CredentialsWrong) as refused:
        await identity.log_in(email=email, password=PASSWORD)
    details.add(refused.value.detail)
    assert len(details) == 1


async def test_a_refresh_token_works_once_and_rotates(identity: Identity) -> None:
    """Each refresh gives a new pair in the same session."""
    first = await identity.guest()
    second = await identity.refresh(first.refresh_token)
    third = await identity.refresh(second.refresh_token)
    actors = [identity.tokens.verify(one.access_token) for one in (first, second, third)]
    assert len({actor.session_id for actor in actors}) == 1
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3


async def test_a_reused_refresh_token_ends_the_whole_session(identity: Identity) -> None:
    """Neither the thief's nor the owner's tokens work on; other sessions are not touched."""
    email = fresh_email()
    first = await identity.register(email=email, password=PASSWORD, name="Ana")
    other = await identity.log_in(email=email, password=PASSWORD)
    second = await identity.refresh(first.refresh_token)
    third = await identity.refresh(second.refresh_token)
    with pytest.raises(SessionRevoked):
        await identity.refresh(first.refresh_token)
    with pytest.raises(SessionRevoked):
        await identity.refresh(third.refresh_token)
    with pytest.raises(SessionRevoked):
        await identity.authenticate(third.access_token)
    assert await identity.authenticate(other.access_token)
    await identity.refresh(other.refresh_token)


async def test_a_refresh_whose_answer_was_lost_can_be_asked_again(identity: Identity) -> None:
    """As often as the network likes, with the same successor, which works."""
    first = await identity.guest()
    lost = await identity.refresh(first.refresh_token)
    again = [await identity.refresh(first.refresh_token) for _ in range(3)]
    assert {one.refresh_token for one in again} == {lost.refresh_token}
    assert await identity.authenticate(again[-1].access_token)
    await identity.refresh(again[-1].refresh_token)


async def test_a_lost_refresh_is_asked_again_across_a_rotation_of_the_secret(
    identity: Identity, database: Database, redis: Redis
) -> None:
    """The process that answers the second time may have been started with the next secret."""
    first = await identity.guest()
    lost = await identity.refresh(first.refresh_token)
    settings = identity_settings(
        jwt_secret=SecretStr("n" * 32), jwt_previous_secret=identity.settings.jwt_secret
    )
    renewed = Identity(settings, database, redis, Clock(), rider_of)
    assert (await renewed.refresh(first.refresh_token)).refresh_token == lost.refresh_token


@pytest.mark.parametrize("late_s", [3_600, 61])
async def test_a_refresh_token_that_comes_back_late_ends_the_session(
    identity: Identity, database: Database, late_s: int
) -> None:
    """A lost answer is asked for within a minute; who comes later has found the token."""
    first = await identity.guest()
    second = await identity.refresh(first.refresh_token)
    async with database.begin() as conn:
        await conn.execute(
            update(refresh_tokens)
            .where(refresh_tokens.c.token_hash == refresh_hash(first.refresh_token))
            .values(used_at=text(f"darkstore_now() - interval '{late_s} seconds'"))
        )
    with pytest.raises(SessionRevoked):
        await identity.refresh(first.refresh_token)
    with pytest.raises(SessionRevoked):
        await identity.refresh(second.refresh_token)


async def test_the_grace_for_a_lost_refresh_can_be_turned_off(
    database: Database, redis: Redis
) -> None:
    """With none, a token that comes back ends its session whatever the reason."""
    settings = identity_settings(refresh_grace_s=0)
    identity = Identity(settings, database, redis, Clock(), rider_of)
    first = await identity.guest()
    await identity.refresh(first.refresh_token)
    with pytest.raises(SessionRevoked):
        await identity.refresh(first.refresh_token)


async def test_one_refresh_token_in_many_tabs_at_once_has_one_successor(
    identity: Identity, database: Database
) -> None:
    """All of them go on in the same session, whose tokens remain one chain."""
    log_in = await identity.guest()
    results = await asyncio.gather(*(identity.refresh(log_in.refresh_token) for _ in range(5)))
    assert len({one.refresh_token for one in results}) == 1
    session_id = identity.tokens.verify(log_in.access_token).session_id
    async with database.begin() as conn:
        unused = await conn.scalars(
            select(refresh_tokens.c.token_hash).where(
                refresh_tokens.c.session_id == session_id, refresh_tokens.c.used_at.is_(None)
            )
        )
    assert unused.all() == [refresh_hash(results[0].refresh_token)]


async def test_a_logged_out_session_has_no_grace(identity: Identity) -> None:
    """A token that was just used does not open what its owner has closed."""
    first = await identity.guest()
    second = await identity.refresh(first.refresh_token)
    await identity.log_out(await identity.authenticate(second.access_token))
    with pytest.raises(SessionRevoked):
        await identity.refresh(first.refresh_token)


async def test_expired_and_invented_refresh_tokens(identity: Identity, database: Database) -> None:
    """An expired session says so; garbage is invalid."""
    log_in = await identity.guest()
    session_id = identity.tokens.verify(log_in.access_token).session_id
    async with database.begin() as conn:
        await conn.execute(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(expires_at=text("darkstore_now() - interval '1 second'"))
        )
    with pytest.raises(TokenExpired):
        await identity.refresh(log_in.refresh_token)
    for garbage in ("", "x" * 43, "\ud800", "\x00"):
        with pytest.raises(TokenInvalid):
            await identity.refresh(garbage)


async def test_log_out_ends_the_session_at_once(identity: Identity, redis: Redis) -> None:
    """Both tokens stop; the mark in Redis outlives the access token and then goes."""
    log_in = await identity.guest()
    actor = await identity.authenticate(log_in.access_token)
    await identity.log_out(actor)
    with pytest.raises(SessionRevoked):
        await identity.authenticate(log_in.access_token)
    with pytest.raises(SessionRevoked):
        await identity.refresh(log_in.refresh_token)
    life_s = await redis.ttl(revoked_key(actor.session_id))
    assert identity.settings.access_life_s <= life_s <= identity.settings.access_life_s + 5


async def test_what_another_process_revokes_is_known_before_five_seconds(
    identity: Identity, database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that was just found alive is trusted for a moment, and not for longer."""
    now_s = [1_000.0]
    monkeypatch.setattr("identity.service.time.monotonic", lambda: now_s[0])
    log_in = await identity.guest()
    actor = await identity.authenticate(log_in.access_token)
    await make(database, redis).log_out(actor)
    now_s[0] += TRUSTED_S + 0.1
    assert TRUSTED_S < 5
    with pytest.raises(SessionRevoked):
        await identity.authenticate(log_in.access_token)


async def test_without_redis_revocation_is_asked_of_the_database(database: Database) -> None:
    """Losing Redis lets nobody in who logged out, and locks nobody out."""
    identity = make(database, connect("redis://127.0.0.1:1/0"))
    gone, alive = await identity.guest(), await identity.guest()
    actor = await identity.authenticate(gone.access_token)
    await identity.log_out(actor)
    with pytest.raises(SessionRevoked):
        await identity.authenticate(gone.access_token)
    living = await identity.authenticate(alive.access_token)
    ids = [actor.session_id, living.session_id, "ses_never"]
    assert await identity.revoked(ids) == {actor.session_id, "ses_never"}


async def test_a_changed_password_ends_all_other_sessions(identity: Identity) -> None:
    """The old password and the old sessions stop; the answer is a new session."""
    email = fresh_email()
    first = await identity.register(email=email, password=PASSWORD, name="Ana")
    actor = await identity.authenticate(first.access_token)
    with pytest.raises(CredentialsWrong):
        await identity.change_password(actor, current="wrong horse", new="a new password")
    changed = await identity.change_password(actor, current=PASSWORD, new="a new password")
    with pytest.raises(SessionRevoked):
        await identity.authenticate(first.access_token)
    assert await identity.authenticate(changed.access_token)
    with pytest.raises(CredentialsWrong):
        await identity.log_in(email=email, password=PASSWORD)
    await identity.log_in(email=email, password="a new password")


async def test_of_two_password_changes_at_once_one_wins(identity: Identity) -> None:
    """Both knew the old password; the second must not overwrite what the first set."""
    email = fresh_email()
    first = await identity.register(email=email, password=PASSWORD, name="Ana")
    actor = await identity.authenticate(first.access_token)
    results = await asyncio.gather(
        *(
            identity.change_password(actor, current=PASSWORD, new=f"new password {n}")
            for n in range(2)
        ),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in results) == ["CredentialsWrong", "LogIn"]


async def test_staff_log_in_with_a_one_time_password(
    identity: Identity, database: Database
) -> None:
    """It works until changed, says that it must be, and the token carries the scopes."""
    email = fresh_email()
    async with database.begin() as conn:
        staff = await create_staff(
            conn, identity.passwords, role=Role.PICKER, name="Pia", email=email,
            store_ids=["sto_b", "sto_a"],
        )  # fmt: skip
        with pytest.raises(EmailTaken):
            await create_staff(
                conn, identity.passwords, role=Role.OPS, name="Pia", email=email.upper()
            )
    for _ in range(2):
        log_in = await identity.log_in(email=staff.email, password=staff.password)
        assert log_in.user.must_change_password
    actor = await identity.authenticate(log_in.access_token)
    assert actor.store_ids == {"sto_a", "sto_b"}
    assert actor.may_act_in_store("sto_a")
    changed = await identity.change_password(actor, current=staff.password, new=PASSWORD)
    assert not changed.user.must_change_password
    assert not (await identity.user(actor)).must_change_password


async def test_a_rider_carries_the_rider_id(identity: Identity, database: Database) -> None:
    """The token of a rider's user names the rider."""
    city_id, rider_id = new_id("cty"), new_id("rdr")
    async with database.begin() as conn:
        staff = await create_staff(
            conn, identity.passwords, role=Role.RIDER, name="Rui", email=fresh_email(),
            city_ids=[city_id],
        )  # fmt: skip

    async def rider_of_test(_conn: object, user_id: str) -> str | None:
        return rider_id if user_id == staff.user_id else None

    ours = Identity(identity.settings, database, identity._redis, Clock(), rider_of_test)
    log_in = await ours.log_in(email=staff.email, password=staff.password)
    assert log_in.user.rider_id == rider_id
    actor = await ours.authenticate(log_in.access_token)
    assert actor.rider_id == rider_id
    assert actor.may_act_in_city(city_id)
    assert (await ours.user(actor)).rider_id == rider_id


async def test_a_log_in_renews_a_hash_of_old_parameters(
    identity: Identity, database: Database, redis: Redis
) -> None:
    """Raising the cost reaches everybody who logs in, and the password stays the same."""
    email = fresh_email()
    user_id = (await identity.register(email=email, password=PASSWORD, name="Ana")).user.id
    before = await stored_hash(database, user_id)
    await identity.log_in(email=email, password=PASSWORD)
    assert await stored_hash(database, user_id) == before
    dearer = make(database, redis, CHEAP_ARGON2.model_copy(update={"memory_cost_kib": 16}))
    await dearer.log_in(email=email, password=PASSWORD)
    after = await stored_hash(database, user_id)
    assert "m=16," in after
    await identity.log_in(email=email, password=PASSWORD)


async def test_no_secret_is_stored_in_clear(identity: Identity, database: Database) -> None:
    """Neither the password nor a token can be read from the tables."""
    log_in = await identity.register(email=fresh_email(), password=PASSWORD, name="Ana")
    async with database.begin() as conn:
        user = (await conn.execute(select(users).where(users.c.id == log_in.user.id))).one()
        tokens = (
            await conn.execute(
                select(refresh_tokens)
                .join(sessions, sessions.c.id == refresh_tokens.c.session_id)
                .where(sessions.c.user_id == log_in.user.id)
            )
        ).all()
    assert len(tokens) == 1
    stored = repr(user) + repr(tokens)
    assert PASSWORD not in stored
    assert log_in.refresh_token not in stored
    assert log_in.access_token not in stored


async def test_the_sweep_forgets_sessions_long_expired(
    identity: Identity, database: Database
) -> None:
    """Expired for two days: gone with its tokens.  Expired for an hour: kept, to say *expired*."""
    old, recent = await identity.guest(), await identity.guest()
    ids = [identity.tokens.verify(one.access_token).session_id for one in (old, recent)]
    async with database.begin() as conn:
        for session_id, age in zip(ids, ("2 days", "1 hour"), strict=True):
            await conn.execute(
                update(sessions)
                .where(sessions.c.id == session_id)
                .values(expires_at=text(f"darkstore_now() - interval '{age}'"))
            )
        assert await sweep(conn) >= 1
        left = (await conn.scalars(select(sessions.c.id).where(sessions.c.id.in_(ids)))).all()
        assert list(left) == [ids[1]]
        assert await account_by_id(conn, old.user.id) is not None
    with pytest.raises(TokenInvalid):
        await identity.refresh(old.refresh_token)
