"""Rules about who may act where, and what people may type about themselves."""

from __future__ import annotations

import pytest

from identity.model import Actor, Role, parse_email, parse_name, parse_password
from kit.errors import Invalid


def actor(role: Role, stores: tuple[str, ...] = (), cities: tuple[str, ...] = ()) -> Actor:
    return Actor("usr_1", role, "ses_1", frozenset(stores), frozenset(cities))


def test_staff_act_in_their_scope_and_admin_everywhere() -> None:
    """A picker of one store is nobody in another; a customer is staff nowhere."""
    picker = actor(Role.PICKER, stores=("sto_1",))
    assert picker.may_act_in_store("sto_1")
    assert not picker.may_act_in_store("sto_2")
    ops = actor(Role.OPS, cities=("cty_1",))
    assert ops.may_act_in_city("cty_1")
    assert not ops.may_act_in_city("cty_2")
    assert not ops.may_act_in_store("sto_1")
    admin = actor(Role.ADMIN)
    assert admin.may_act_in_store("sto_9")
    assert admin.may_act_in_city("cty_9")
    # A scope that slipped into a customer's token gives nothing.
    customer = actor(Role.CUSTOMER, stores=("sto_1",), cities=("cty_1",))
    assert not customer.may_act_in_store("sto_1")
    assert not customer.may_act_in_city("cty_1")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Ana.Lima+groceries@Example.ORG ", "Ana.Lima+groceries@example.org"),
        ("o'neil@mail.co.uk", "o'neil@mail.co.uk"),
        ("a@b.c", "a@b.c"),
        ("x@xn--bcher-kva.example", "x@xn--bcher-kva.example"),
    ],
)
def test_an_email_address_is_trimmed_and_its_domain_folded(typed: str, kept: str) -> None:
    """The local part keeps its capitals, because its host may tell them apart."""
    assert parse_email(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "ana", "ana@", "@example.org", "ana@example", "a b@example.org", "ana@@example.org",
        ".ana@example.org", "ana..lima@example.org", "ana@-example.org", "ana@example..org",
        "ana@example.org\nBcc: x@y.z", "a" * 65 + "@example.org", "ana@" + "b" * 250 + ".org",
        "ana\x00@example.org", "<ana@example.org>",
    ],
)  # fmt: skip
def test_what_is_not_an_email_address_is_refused(typed: str) -> None:
    """Errors name the field."""
    with pytest.raises(Invalid) as refused:
        parse_email(typed)
    assert refused.value.errors[0]["field"] == "email"


def test_names_are_trimmed_bounded_and_free_of_control_characters() -> None:
    """Any script is fine; line breaks and NUL are not."""
    assert parse_name("  José   d'Ávila ") == "José d'Ávila"
    assert parse_name("王小明") == "王小明"
    for wrong in ("", "   ", "x" * 101, "a\x00b", "a\ud800b"):
        with pytest.raises(Invalid):
            parse_name(wrong)


def test_passwords_have_a_length_and_one_unicode_form() -> None:
    """The same word composed in two ways is one password."""
    assert parse_password("cafe\u0301 noir") == parse_password("caf\u00e9 noir")
    for wrong in ("seven77", "x" * 129):
        with pytest.raises(Invalid) as refused:
            parse_password(wrong, "new_password")
        assert refused.value.errors[0]["field"] == "new_password"
