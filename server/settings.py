"""Every setting of the system, read once from the environment and handed down by value.

Nested names are joined with two underscores: ``DARKSTORE_HTTP__BODY_MAX_BYTES=32768``.
``DATABASE_URL`` and ``REDIS_URL`` keep their customary plain names.  Features define their own
classes; only this module reads the environment.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from identity.settings import IdentitySettings
from kit.db import STATEMENT_TIMEOUT_S
from kit.event_bus import BusSettings
from ledger.settings import LedgerSettings
from notify.settings import NotifySettings
from orders.dispatch_settings import DispatchSettings
from orders.settings import OrderSettings
from orders.spool import SpoolSettings
from payments.settings import PaymentSettings
from riders.settings import RiderSettings
from server.decision_settings import DecisionLogSettings
from stores.settings import StoreSettings

ENV_PREFIX = "DARKSTORE_"

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


class SettingsError(Exception):
    """The environment does not describe a system that can start; the text says what to change."""


class RateLimitSettings(BaseModel):
    """How many requests a minute at clock speed 1; a faster clock allows as many times more.

    An address can be thousands of people behind one carrier's translation, so limits by address
    are wide and those by account narrow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    per_actor: int = Field(default=1200, ge=1)
    per_address: int = Field(default=6000, ge=1)
    log_in_per_address: int = Field(default=600, ge=1)
    log_in_per_account: int = Field(default=10, ge=1)
    register_per_address: int = Field(default=600, ge=1)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.log_in_per_account > self.log_in_per_address:
            raise ValueError("log_in_per_account must not exceed log_in_per_address")
        return self


class HttpSettings(BaseModel):
    """The HTTP shell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_max_bytes: int = Field(default=64 * 1024, ge=1024)
    request_deadline_s: float = Field(default=15.0, gt=0)
    drain_timeout_s: float = Field(default=20.0, gt=0)
    # Origins of web apps on other hosts; our own pages need none.  Sockets check the same list.
    allowed_origins: tuple[str, ...] = ()
    # Networks whose X-Forwarded-For is believed.  None: a header that anybody can send.
    trusted_proxies: tuple[str, ...] = ()
    docs_page: bool = False
    rate_limits: RateLimitSettings = RateLimitSettings()

    @model_validator(mode="after")
    def _relations(self) -> Self:
        for network in self.trusted_proxies:
            ipaddress.ip_network(network)
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://shop.example")
        if self.drain_timeout_s < self.request_deadline_s:
            raise ValueError("drain_timeout_s must not be shorter than request_deadline_s")
        if self.request_deadline_s > STATEMENT_TIMEOUT_S:
            raise ValueError(
                f"request_deadline_s must be at most {STATEMENT_TIMEOUT_S:g}, the limit of a"
                " statement: a request must not wait for an answer that the database has given up"
            )
        return self


class Settings(BaseSettings):
    """The whole system's settings."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    # Both unset: embedded engines.
    database_url: str | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "database_url")
    )
    redis_url: str | None = Field(
        default=None, validation_alias=AliasChoices("REDIS_URL", "redis_url")
    )
    database_pool_size: int = Field(default=16, ge=2, le=200)
    # The role that every connection takes (server/database_role.py); empty for the account's own.
    database_role: str = Field(default="darkstore_app", pattern="^([a-z_][a-z0-9_]*)?$")
    redis_pool_size: int = Field(default=50, ge=2, le=1000)
    # Whose server this is: `up` must not take another system's answer for its own.
    instance: str = Field(default="", max_length=64)
    # Fault runs alone set it: the folder in which `kit.crash_points` are armed.
    crash_points: Path | None = None
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    http: HttpSettings = HttpSettings()
    # One nested class a feature.
    bus: BusSettings = BusSettings()
    decision_log: DecisionLogSettings = DecisionLogSettings()
    dispatch: DispatchSettings = DispatchSettings()
    identity: IdentitySettings
    notify: NotifySettings = NotifySettings()
    ledger: LedgerSettings = LedgerSettings()
    orders: OrderSettings = OrderSettings()
    payments: PaymentSettings = PaymentSettings()
    riders: RiderSettings = RiderSettings()
    spool: SpoolSettings = SpoolSettings()
    stores: StoreSettings = StoreSettings()

    @model_validator(mode="after")
    def _relations(self) -> Self:
        """What must hold between features; each feature checks its own."""
        if self.riders.offer_life_s * 4 > self.orders.quote_life_s:
            raise ValueError("riders.offer_life_s must leave room for several offers in a promise")
        if self.payments.checkout_deadline_s >= self.http.request_deadline_s:
            raise ValueError(
                "payments.deadline_s (1.5 of it) must be shorter than http.request_deadline_s,"
                " or a slow gateway is answered by a time-out of ours"
            )
        return self


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; keyword arguments win over the environment.

    Raises ``SettingsError`` with one sentence a fault, and never with the value of a secret.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic, that is the point
    except ValidationError as error:
        faults = [_sentence(tuple(one["loc"]), one["type"], one["msg"]) for one in error.errors()]
        raise SettingsError(" ".join(faults)) from None


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """One fault, by the name of its variable."""
    if location == ("identity",) and kind == "missing":
        location = ("identity", "jwt_secret")
    if location[-1:] == ("jwt_secret",) and kind == "missing":
        return (
            f"Set {_variable(location)} to at least 32 random bytes"
            " (for example `openssl rand -hex 32`)."
        )
    text = message.removeprefix("Value error, ")
    return f"{_variable(location)}: {text}." if location else f"{text[:1].upper()}{text[1:]}."


def _variable(location: tuple[int | str, ...]) -> str:
    first = str(location[0])
    if first.isupper():
        return first
    return ENV_PREFIX + "__".join(str(part).upper() for part in location)
