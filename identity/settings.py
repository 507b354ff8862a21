"""Settings of identity.  Lives are in virtual seconds."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

JWT_SECRET_MIN_BYTES = 32


class Argon2Settings(BaseModel):
    """Cost of one password hash.

    The defaults are OWASP's second recommendation for argon2id (19 MiB, 2 passes, 1 lane).  Tests
    and simulations, which log in hundreds of people at once, set the least that argon2 allows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_cost: int = Field(default=2, ge=1, le=20)
    memory_cost_kib: int = Field(default=19 * 1024, ge=8, le=1024 * 1024)
    parallelism: int = Field(default=1, ge=1, le=16)
    # Hashes at once in one process: each takes a core and its memory.
    concurrency: int = Field(default=2, ge=1, le=64)
    # Log-ins that may wait for their turn; the next one is told to come back (``busy``).
    queue_max: int = Field(default=100, ge=1)


class IdentitySettings(BaseModel):
    """Tokens, sessions, passwords."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # No default: a secret that everybody can read in the source is none.
    jwt_secret: SecretStr
    # The secret before the last rotation: still verifies, no longer signs.
    jwt_previous_secret: SecretStr | None = None
    issuer: str = Field(default="darkstore", min_length=1)
    audience: str = Field(default="darkstore-api", min_length=1)
    access_life_s: int = Field(default=15 * 60, ge=10)
    session_life_s: int = Field(default=30 * 24 * 3600, ge=60)
    # Real seconds after its use in which a refresh token may be presented again, for a client that
    # never got the answer: a client's deadline and an outage fit in.  0: not at all.
    refresh_grace_s: int = Field(default=60, ge=0, le=600)
    argon2: Argon2Settings = Argon2Settings()

    @model_validator(mode="after")
    def _relations(self) -> Self:
        for secret in (self.jwt_secret, self.jwt_previous_secret):
            if secret is not None and len(secret.get_secret_value().encode()) < (
                JWT_SECRET_MIN_BYTES
            ):
                raise ValueError(f"a JWT secret has at least {JWT_SECRET_MIN_BYTES} bytes")
        if self.access_life_s >= self.session_life_s:
            raise ValueError("access_life_s must be shorter than session_life_s")
        return self
