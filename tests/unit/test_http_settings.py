"""Settings come from the environment, and a wrong environment stops the start with one sentence."""

from __future__ import annotations

import os

import pytest

from server.settings import SettingsError, load_settings

SECRET = "x" * 32


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith("DARKSTORE_") or name in {"DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("DARKSTORE_IDENTITY__JWT_SECRET", SECRET)
    return monkeypatch


def test_nested_names_and_customary_urls_are_read(environment: pytest.MonkeyPatch) -> None:
    """Two underscores nest; DATABASE_URL and REDIS_URL keep their names."""
    environment.setenv("DATABASE_URL", "postgresql://db/x")
    environment.setenv("REDIS_URL", "redis://cache/0")
    environment.setenv("DARKSTORE_HTTP__BODY_MAX_BYTES", "2048")
    environment.setenv("DARKSTORE_HTTP__RATE_LIMITS__PER_ACTOR", "7")
    environment.setenv("DARKSTORE_IDENTITY__ARGON2__TIME_COST", "1")
    settings = load_settings()
    assert settings.database_url == "postgresql://db/x"
    assert settings.redis_url == "redis://cache/0"
    assert settings.http.body_max_bytes == 2048
    assert settings.http.rate_limits.per_actor == 7
    assert settings.identity.argon2.time_cost == 1


def test_without_a_secret_nothing_starts(environment: pytest.MonkeyPatch) -> None:
    """One clear sentence that names the variable."""
    environment.delenv("DARKSTORE_IDENTITY__JWT_SECRET")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == (
        "Set DARKSTORE_IDENTITY__JWT_SECRET to at least 32 random bytes"
        " (for example `openssl rand -hex 32`)."
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DARKSTORE_IDENTITY__JWT_SECRET", "short-secret", "at least 32 bytes"),
        ("DARKSTORE_HTTP__REQUEST_DEADLINE_S", "60", "DARKSTORE_HTTP"),
        ("DARKSTORE_HTTP__BODY_MAX_BYTES", "many", "DARKSTORE_HTTP__BODY_MAX_BYTES"),
        ("DARKSTORE_HTTP__ALLOWED_ORIGINS", '["*"]', "not an origin"),
        ("DARKSTORE_HTTP__TRUSTED_PROXIES", '["everybody"]', "DARKSTORE_HTTP"),
        ("DARKSTORE_IDENTITY__ACCESS_LIFE_S", "99999999", "shorter than session_life_s"),
        ("DARKSTORE_HTTP__REQUEST_DEADLINE_S", "5", "Payments.deadline_s"),
    ],
)
def test_a_wrong_value_names_its_variable_and_not_its_content(
    environment: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """Also for relations between settings; a secret is never printed."""
    environment.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert sentence in str(refused.value)
    assert "short-secret" not in str(refused.value)


def test_secrets_do_not_show_in_print() -> None:
    """A settings object in a log or a traceback gives nothing away."""
    assert SECRET not in repr(load_settings())
