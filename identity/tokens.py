"""Access tokens (JWT, HS256, short) and refresh tokens (random, stored as hashes).

Times are virtual, so they are checked here against the system's clock and not by the library.
The key id in the header is derived from the secret: during a rotation both secrets verify.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import orjson

from identity.errors import TokenExpired, TokenInvalid
from identity.model import Actor, Role
from identity.settings import IdentitySettings
from kit.clock import Clock

ALGORITHM = "HS256"
# Clocks of processes share their anchors; this covers the few milliseconds between machines.
LEEWAY_S = 2.0
TOKEN_MAX_CHARACTERS = 4096
# Verified tokens that are kept: checking a signature again costs as much as a query.
KNOWN_MAX = 20_000
_REQUIRED = ["iss", "aud", "sub", "sid", "role", "iat", "exp"]


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a token with a good signature says; virtual POSIX seconds."""

    actor: Actor
    issued_s: float
    expires_s: float


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A fresh refresh token and what is stored of it."""

    text: str
    hash: bytes


class Tokens:
    """Signs and verifies; knows no database."""

    def __init__(self, settings: IdentitySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        current = settings.jwt_secret.get_secret_value().encode()
        self._key_id = key_id(current)
        self._keys = {self._key_id: current}
        self._header = _base64url(
            orjson.dumps({"alg": ALGORITHM, "kid": self._key_id, "typ": "JWT"})
        )
        if settings.jwt_previous_secret is not None:
            previous = settings.jwt_previous_secret.get_secret_value().encode()
            self._keys.setdefault(key_id(previous), previous)
        # The current one first.
        self._successor_keys = [_successor_key(key) for key in self._keys.values()]
        # By the whole token: what is not equal to the last character is verified anew.
        self._known: dict[str, _Proof] = {}

    def access(self, actor: Actor) -> str:
        """A token that proves ``actor`` for ``access_life_s`` virtual seconds."""
        now_s = self._clock.now_s()
        claims: dict[str, object] = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": actor.user_id,
            "sid": actor.session_id,
            "role": actor.role.value,
            "iat": now_s,
            "exp": now_s + self._settings.access_life_s,
        }
        if actor.store_ids:
            claims["stores"] = sorted(actor.store_ids)
        if actor.city_ids:
            claims["cities"] = sorted(actor.city_ids)
        if actor.rider_id is not None:
            claims["rider"] = actor.rider_id
        token = self._signed(claims)
        self._remember(token, _Proof(actor, now_s, now_s + self._settings.access_life_s))
        return token

    def _signed(self, claims: Mapping[str, object]) -> str:
        """The claims as a JWS in compact form (RFC 7515).

        By hand, because the library takes six times as long for the same bytes; it verifies them.
        """
        body = self._header + b"." + _base64url(orjson.dumps(claims))
        signature = hmac.digest(self._keys[self._key_id], body, "sha256")
        return (body + b"." + _base64url(signature)).decode()

    def verify(self, token: str) -> Actor:
        """The actor of an access token.  Raises ``TokenInvalid`` or ``TokenExpired``."""
        proof = self._known.get(token) or self._proof(token)
        now_s = self._clock.now_s()
        if not now_s < proof.expires_s + LEEWAY_S:
            raise TokenExpired("Your access token has expired; refresh it.")
        if not proof.issued_s <= now_s + LEEWAY_S:
            raise _invalid()
        return proof.actor

    def successor(self, token: str) -> RefreshToken:
        """What a refresh token is exchanged for: always the same, and only we can tell what.

        An answer that got lost can thus be given again although only hashes are stored.
        """
        return self.successors(token)[0]

    def successors(self, token: str) -> list[RefreshToken]:
        """The successor under the current secret, and that under the one before."""
        return [_derived(key, token) for key in self._successor_keys]

    def _proof(self, token: str) -> _Proof:
        claims = self._claims(token)
        try:
            expires_s, issued_s = float(claims["exp"]), float(claims["iat"])
            actor = Actor(
                user_id=_text(claims["sub"]),
                role=Role(claims["role"]),
                session_id=_text(claims["sid"]),
                store_ids=frozenset(map(_text, claims.get("stores", ()))),
                city_ids=frozenset(map(_text, claims.get("cities", ()))),
                rider_id=None if claims.get("rider") is None else _text(claims["rider"]),
            )
        except (TypeError, ValueError) as error:
            raise _invalid() from error
        proof = _Proof(actor, issued_s, expires_s)
        self._remember(token, proof)
        return proof

    def _remember(self, token: str, proof: _Proof) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[token] = proof

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_MAX_CHARACTERS:
            raise _invalid()
        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise _invalid()
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                options={
                    "require": _REQUIRED,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise _invalid() from error


def key_id(secret: bytes) -> str:
    """A name for a secret that does not give it away."""
    return hashlib.sha256(b"darkstore jwt key id\0" + secret).hexdigest()[:16]


def new_refresh_token() -> RefreshToken:
    """256 random bits."""
    return _refresh_token(secrets.token_bytes(32))


def _successor_key(secret: bytes) -> bytes:
    return hashlib.sha256(b"darkstore refresh successor\0" + secret).digest()


def _derived(key: bytes, token: str) -> RefreshToken:
    return _refresh_token(hmac.digest(key, refresh_hash(token), "sha256"))


def _refresh_token(bits: bytes) -> RefreshToken:
    text = base64.urlsafe_b64encode(bits).rstrip(b"=").decode()
    return RefreshToken(text, refresh_hash(text))


def refresh_hash(token: str) -> bytes:
    """What the database keeps.  Plain SHA-256: 256 random bits cannot be guessed from it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a claim is not text")
    return value


def _invalid() -> TokenInvalid:
    return TokenInvalid("This access token is not valid; log in again.")
