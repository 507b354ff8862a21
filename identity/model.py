"""Who is asking: roles, the actor of a request, and what people may type about themselves.

An *actor* is what an access token proves: a user in one log-in session, with the stores and cities
in which a member of staff may act.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum

from kit.errors import Invalid

EMAIL_MAX_CHARACTERS = 254
NAME_MAX_CHARACTERS = 100
PASSWORD_MIN_CHARACTERS = 8
# Argon2 would take 4 GiB; a bound keeps a request's cost the same for everybody.
PASSWORD_MAX_CHARACTERS = 128


class Role(StrEnum):
    """What a user is; a user has exactly one."""

    CUSTOMER = "customer"
    GUEST = "guest"
    PICKER = "picker"
    RIDER = "rider"
    STORE_MANAGER = "store_manager"
    SUPPORT = "support"
    OPS = "ops"
    ADMIN = "admin"


SHOPPERS = frozenset({Role.CUSTOMER, Role.GUEST})
STAFF = frozenset(Role) - SHOPPERS


@dataclass(frozen=True, slots=True)
class Actor:
    """The verified origin of a request.  ``rider_id`` is set for riders only."""

    user_id: str
    role: Role
    session_id: str
    store_ids: frozenset[str] = field(default_factory=frozenset)
    city_ids: frozenset[str] = field(default_factory=frozenset)
    rider_id: str | None = None

    def may_act_in_store(self, store_id: str) -> bool:
        """Whether the actor is staff of that store; admin is staff everywhere.

        A city scope does not imply its stores here, because only ``stores`` knows which those are.
        """
        return self.role is Role.ADMIN or (self.role in STAFF and store_id in self.store_ids)

    def may_act_in_city(self, city_id: str) -> bool:
        """Whether the actor is staff of that city; admin is staff everywhere."""
        return self.role is Role.ADMIN or (self.role in STAFF and city_id in self.city_ids)


@dataclass(frozen=True, slots=True)
class User:
    """A person as others may see them: no password, no hash."""

    id: str
    role: Role
    name: str
    email: str | None
    store_ids: tuple[str, ...] = ()
    city_ids: tuple[str, ...] = ()
    rider_id: str | None = None
    must_change_password: bool = False


_LOCAL_PART = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}", re.ASCII)


def parse_email(text: str) -> str:
    """The trimmed address, its domain in small letters.  Raises ``Invalid`` on field ``email``.

    The dot-atom form of RFC 5321: whether it is *somebody's* address only a message can tell.
    """
    email = text.strip()
    local, _, domain = email.rpartition("@")
    if (
        len(email) > EMAIL_MAX_CHARACTERS
        or len(local) > 64
        or not _LOCAL_PART.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
    ):
        raise _invalid("email", "This is not an e-mail address.")
    return f"{local}@{domain.lower()}"


def parse_name(text: str) -> str:
    """The name with its ends trimmed and inner white space folded.  Raises ``Invalid``."""
    name = " ".join(text.split())
    if not name:
        raise _invalid("name", "Enter a name.")
    if len(name) > NAME_MAX_CHARACTERS:
        raise _invalid("name", f"A name has at most {NAME_MAX_CHARACTERS} characters.")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise _invalid("name", "A name has no control characters.")
    return name


def parse_password(text: str, field_name: str = "password") -> str:
    """A new password, in the one Unicode form in which it is hashed.  Raises ``Invalid``."""
    if not PASSWORD_MIN_CHARACTERS <= len(text) <= PASSWORD_MAX_CHARACTERS:
        raise _invalid(
            field_name,
            f"A password has {PASSWORD_MIN_CHARACTERS} to {PASSWORD_MAX_CHARACTERS} characters.",
        )
    return normal_password(text)


def normal_password(text: str) -> str:
    """NFKC, so that the same keys typed on another keyboard give the same bytes."""
    return unicodedata.normalize("NFKC", text)


def _invalid(field_name: str, detail: str) -> Invalid:
    return Invalid(detail, errors=[{"field": field_name, "detail": detail}])
