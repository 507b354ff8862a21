"""Registration, log-in and tokens (``/v1/auth``), and who one is (``/v1/me``).

These posts take no ``Idempotency-Key``: a stored answer would keep tokens in clear text.  Sent
again, log-in and guest give a new session, refresh ends it, and register says ``email_taken``.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import EMAIL_MAX_CHARACTERS, NAME_MAX_CHARACTERS, Actor, Role, User
from identity.service import LogIn
from riders.tables import riders
from server.api.access import PUBLIC, IdentityDep, RateLimiterDep, allow
from server.api.schemas import RequestModel
from server.limits import client_address, pseudonym

router = APIRouter(prefix="/v1", tags=["identity"])

# Longer than any password of ours (128 characters), so that the rule and not the shape answers.
PasswordText = Annotated[SecretStr, Field(min_length=1, max_length=512)]
EmailText = Annotated[str, Field(min_length=3, max_length=EMAIL_MAX_CHARACTERS + 20)]
AnyRole = Annotated[Actor, allow(*Role)]


class RegisterIn(RequestModel):
    email: EmailText
    password: PasswordText
    name: str = Field(min_length=1, max_length=NAME_MAX_CHARACTERS * 2)


class LogInIn(RequestModel):
    email: EmailText
    password: PasswordText


class RefreshIn(RequestModel):
    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=200)]


class PasswordChangeIn(RequestModel):
    current_password: PasswordText
    new_password: PasswordText


class UserOut(BaseModel):
    """A user as that user sees it.  ``must_change_password`` after a one-time password."""

    id: str
    role: Role
    name: str
    email: str | None
    store_ids: list[str]
    city_ids: list[str]
    rider_id: str | None
    must_change_password: bool


class LogInOut(BaseModel):
    """``expires_in_s`` is the life of the access token; a refresh token works once."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    user: UserOut


async def rider_of(conn: AsyncConnection, user_id: str) -> str | None:
    """The rider whom a user is: identity may not ask riders, so the server does for it."""
    return await conn.scalar(select(riders.c.id).where(riders.c.user_id == user_id))


def _user_out(user: User) -> UserOut:
    return UserOut(
        id=user.id,
        role=user.role,
        name=user.name,
        email=user.email,
        store_ids=list(user.store_ids),
        city_ids=list(user.city_ids),
        rider_id=user.rider_id,
        must_change_password=user.must_change_password,
    )


def _log_in_out(log_in: LogIn) -> LogInOut:
    return LogInOut(
        access_token=log_in.access_token,
        refresh_token=log_in.refresh_token,
        expires_in_s=log_in.expires_in_s,
        user=_user_out(log_in.user),
    )


@router.post("/auth/register", status_code=201, dependencies=[PUBLIC])
async def register(
    request: Request, body: RegisterIn, identity: IdentityDep, limiter: RateLimiterDep
) -> LogInOut:
    """Become a customer, logged in."""
    await limiter.hit("register", limiter.settings.register_per_address, client_address(request))
    return _log_in_out(
        await identity.register(
            email=body.email, password=body.password.get_secret_value(), name=body.name
        )
    )


@router.post("/auth/login", dependencies=[PUBLIC])
async def log_in(
    request: Request, body: LogInIn, identity: IdentityDep, limiter: RateLimiterDep
) -> LogInOut:
    """Log in with e-mail and password."""
    settings = limiter.settings
    await limiter.hit("log_in_address", settings.log_in_per_address, client_address(request))
    account = pseudonym(body.email.strip().lower())
    await limiter.hit("log_in_account", settings.log_in_per_account, account)
    return _log_in_out(
        await identity.log_in(email=body.email, password=body.password.get_secret_value())
    )


@router.post("/auth/guest", status_code=201, dependencies=[PUBLIC])
async def guest(request: Request, identity: IdentityDep, limiter: RateLimiterDep) -> LogInOut:
    """Shop without an account."""
    await limiter.hit("register", limiter.settings.register_per_address, client_address(request))
    return _log_in_out(await identity.guest())


@router.post("/auth/refresh", dependencies=[PUBLIC])
async def refresh(body: RefreshIn, identity: IdentityDep) -> LogInOut:
    """Exchange a refresh token for a new pair.  One that comes back twice ends its session."""
    return _log_in_out(await identity.refresh(body.refresh_token.get_secret_value()))


@router.post("/auth/logout", status_code=204, response_class=Response)
async def log_out(actor: AnyRole, identity: IdentityDep) -> None:
    """End this session: both its tokens stop working."""
    await identity.log_out(actor)


@router.post("/auth/password/change")
async def change_password(
    body: PasswordChangeIn, actor: AnyRole, identity: IdentityDep, limiter: RateLimiterDep
) -> LogInOut:
    """Set a new password; every session of the user ends, and this answer opens a new one."""
    await limiter.hit("log_in_account", limiter.settings.log_in_per_account, actor.user_id)
    return _log_in_out(
        await identity.change_password(
            actor,
            current=body.current_password.get_secret_value(),
            new=body.new_password.get_secret_value(),
        )
    )


@router.get("/me")
async def me(actor: AnyRole, identity: IdentityDep) -> UserOut:
    """Who the bearer of this token is."""
    return _user_out(await identity.user(actor))
