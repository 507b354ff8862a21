"""Access tokens prove exactly what was signed, for as long as virtual time says."""

from __future__ import annotations

import asyncio
import threading
import time

import jwt
import pytest

from identity.errors import TokenExpired, TokenInvalid
from identity.model import Actor, Role
from identity.passwords import Passwords, one_time_password
from identity.settings import Argon2Settings
from identity.tokens import Tokens, key_id, new_refresh_token, refresh_hash
from kit.clock import Clock
from kit.errors import Busy
from tests.http_support import SECRET, identity_settings

RIDER = Actor("usr_1", Role.RIDER, "ses_1", frozenset(), frozenset({"cty_1"}), "rdr_1")
PICKER = Actor("usr_2", Role.PICKER, "ses_2", frozenset({"sto_2", "sto_1"}))
OTHER_SECRET = "another secret of at least thirty-two bytes"


def clock_at(offset_s: float) -> Clock:
    """A clock that is so many seconds ahead of the wall clock."""
    return Clock(anchor_virtual_s=offset_s)


@pytest.mark.parametrize("actor", [RIDER, PICKER])
def test_a_token_carries_the_actor(actor: Actor) -> None:
    """What goes in comes out, scopes and rider included."""
    token = Tokens(identity_settings(), Clock()).access(actor)
    assert Tokens(identity_settings(), Clock()).verify(token) == actor


def test_a_token_that_is_known_already_expires_all_the_same() -> None:
    """Whoever has seen a token does not verify its signature again, but its time."""
    clock = Clock(anchor_virtual_s=10_000)
    tokens = Tokens(identity_settings(), clock)
    token = tokens.access(RIDER)
    assert tokens.verify(token) == RIDER
    assert tokens.verify(token) == RIDER
    object.__setattr__(clock, "anchor_virtual_s", 11_000.0)
    with pytest.raises(TokenExpired):
        tokens.verify(token)


def test_a_token_expires_in_virtual_time() -> None:
    """Valid for 15 virtual minutes, whatever the wall clock says, and never before its birth."""
    token = Tokens(identity_settings(), clock_at(10_000)).access(RIDER)
    assert Tokens(identity_settings(), clock_at(10_890)).verify(token) == RIDER
    with pytest.raises(TokenExpired):
        Tokens(identity_settings(), clock_at(10_905)).verify(token)
    with pytest.raises(TokenInvalid):
        Tokens(identity_settings(), clock_at(9_900)).verify(token)


def test_two_secrets_verify_during_a_rotation() -> None:
    """Old tokens live on under the previous secret; without it they end."""
    old = Tokens(identity_settings(), Clock()).access(RIDER)
    rotated = Tokens(
        identity_settings(jwt_secret=OTHER_SECRET, jwt_previous_secret=SECRET), Clock()
    )
    assert rotated.verify(old) == RIDER
    assert jwt.get_unverified_header(rotated.access(RIDER))["kid"] == key_id(OTHER_SECRET.encode())
    with pytest.raises(TokenInvalid):
        Tokens(identity_settings(jwt_secret=OTHER_SECRET), Clock()).verify(old)


def forged(secret: str, algorithm: str = "HS256", **changes: object) -> str:
    claims: dict[str, object] = {
        "iss": "darkstore", "aud": "darkstore-api", "sub": "usr_1", "sid": "ses_1",
        "role": "admin", "iat": time.time(), "exp": time.time() + 900,
    }  # fmt: skip
    claims |= changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm, headers={"kid": key_id(SECRET.encode())})


FORGERIES = {
    "secret": forged(OTHER_SECRET),
    "unsigned": forged("", "none"),
    "algorithm": forged(SECRET, "HS512"),
    "issuer": forged(SECRET, iss="somebody"),
    "audience": forged(SECRET, aud="another-api"),
    "no_expiry": forged(SECRET, exp=None),
    "no_session": forged(SECRET, sid=None),
    "role": forged(SECRET, role="emperor"),
    "nan": forged(SECRET, exp=float("nan")).replace("\n", ""),
    "scope": forged(SECRET, stores=[1]),
    "long": "a" * 5000,
    "text": "a.b.c",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_tokens_are_refused(name: str) -> None:
    """Another secret, algorithm, issuer or audience, a missing claim, a wrong type."""
    tokens = Tokens(identity_settings(), Clock())
    assert tokens.verify(forged(SECRET)).role is Role.ADMIN, "the forgery differs in one thing"
    with pytest.raises((TokenInvalid, TokenExpired)):
        tokens.verify(FORGERIES[name])


def test_refresh_tokens_are_random_and_kept_as_hashes() -> None:
    """The stored form does not contain the token."""
    first, second = new_refresh_token(), new_refresh_token()
    assert first.text != second.text
    assert len(first.text) == 43
    assert first.hash == refresh_hash(first.text)
    assert first.text.encode() not in first.hash


CHEAP = Argon2Settings(time_cost=1, memory_cost_kib=8, parallelism=1)


async def test_passwords_match_their_hash_only() -> None:
    """Argon2id; another password, a broken hash and no hash do not match."""
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$")
    assert await passwords.matches(stored, "correct horse")
    assert not await passwords.matches(stored, "correct house")
    assert not await passwords.matches("not a hash", "correct horse")
    assert not await passwords.matches(None, "correct horse")


async def test_a_hash_with_other_parameters_is_outdated() -> None:
    """So that the next log-in can renew it."""
    stored = await Passwords(CHEAP).hash("correct horse")
    assert not Passwords(CHEAP).outdated(stored)
    assert Passwords(CHEAP.model_copy(update={"memory_cost_kib": 16})).outdated(stored)


async def test_an_unknown_person_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of hash computations with the same parameters, known or not."""
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("correct horse")
    checked: list[str] = []
    check = passwords._check

    def counting(stored_hash: str, password: str) -> bool:
        checked.append(stored_hash.rpartition("$")[0].rpartition("$")[0])
        return check(stored_hash, password)

    monkeypatch.setattr(passwords, "_check", counting)
    await passwords.matches(stored, "wrong")
    await passwords.matches(None, "wrong")
    assert len(checked) == 2
    assert checked[0] == checked[1]


async def test_a_full_queue_of_log_ins_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing is bounded: one at a time here, one waiting, the third is sent away."""
    passwords = Passwords(CHEAP.model_copy(update={"concurrency": 1, "queue_max": 2}))
    release = threading.Event()
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def slow(_hash: str, _password: str) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return release.wait(10)

    monkeypatch.setattr(passwords, "_check", slow)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(passwords.matches("h", "p")) for _ in range(2)]
        # By the time that the first is in its thread, the second has queued up.
        await begun.wait()
        with pytest.raises(Busy):
            await passwords.matches("h", "p")
        release.set()
    assert [task.result() for task in waiting] == [True, True]


def test_one_time_passwords_are_readable_and_differ() -> None:
    """Four groups of four, none of the characters that look alike."""
    made = {one_time_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 19 and not set(one) & set("0O1lI") for one in made)
