"""What counts as a card number, and what never does."""

from __future__ import annotations

import orjson
import pytest

from kit.ids import new_id
from server.card_numbers import _is_suspect, body_holds_card_number, holds_card_number

# The schemes' own test numbers.
CARDS = {
    "visa": "4111111111111111",
    "visa_13": "4222222222222",
    "mastercard": "5555555555554444",
    "mastercard_2": "2223003122003222",
    "amex": "378282246310005",
    "diners": "30569309025904",
    "discover": "6011111111111117",
    "jcb": "3530111333300000",
    "unionpay": "6200000000000005",
    "rupay": "6521111111111110",
    "maestro": "6759649826438453",
}
WRITTEN = (
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "3782 822463 10005",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "41 11 11 11 11 11 11 11",
    "please charge 4111111111111111 12/31 123",
    "tok_4242424242424242",
    "12.97 4111111111111111",
    "４１１１１１１１１１１１１１１１",
    "४१११ ११११ ११११ ११११",
    "4111\u00a01111\u00a01111\u00a01111",
    "4111\u20131111\u20131111\u20131111",
)
INNOCENT = (
    "4111111111111112",  # no Luhn digit
    "1234567890123452",  # no scheme begins with 1
    "1763708400000",  # milliseconds since 1970
    "12.971598765432101",
    "4.4111111111111111",
    "+4915123456789",
    "+919876543210",
    "560038 9876543210",  # postcode and telephone
    "550e8400-e29b-41d4-a716-446655440000",
    "2026-11-21T06:52:36.123456Z",
    "5901234123457",  # EAN-13
    "4006381333931",
    "5000112637922",
    "6001240100011",
    "30012345678906",  # GTIN-14
    "ord_01M7YG16TR1B5XZ6V8K58GXVQP",
)


@pytest.mark.parametrize("number", CARDS.values(), ids=CARDS)
def test_numbers_of_every_scheme_are_known(number: str) -> None:
    """Alone, in a sentence, as a number of JSON and deep inside a body."""
    assert holds_card_number(number)
    assert holds_card_number(f"my card is {number}, thanks")
    for body in ({"note": number}, {"token": int(number)}, {"a": [{"b": [f"x {number}"]}]}):
        raw = orjson.dumps(body)
        assert _is_suspect(raw)
        assert body_holds_card_number(raw)


@pytest.mark.parametrize("written", WRITTEN)
def test_ways_to_write_it_are_known(written: str) -> None:
    """Groups, hyphens, other scripts, and JSON that spells digits as escapes."""
    assert holds_card_number(written)
    for raw in (orjson.dumps({"note": written}), f"note={written}".encode()):
        assert _is_suspect(raw)
        assert body_holds_card_number(raw)


def test_escaped_digits_are_read() -> None:
    """A body that writes its digits as \\u0034 means the same."""
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in CARDS["visa"])
    raw = f'{{"note": "{escaped}"}}'.encode()
    assert _is_suspect(raw)
    assert body_holds_card_number(raw)


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_one_passes(text: str) -> None:
    """Barcodes, telephones, times, places and ids."""
    assert not holds_card_number(text)
    assert not body_holds_card_number(orjson.dumps({"note": text, "lat": 12.971598765432101}))


def test_a_barcode_field_takes_what_scanners_read() -> None:
    """A barcode whose check digit was misread passes there; a whole card number does not."""
    looks_like_visa = "4222222222222"
    assert not body_holds_card_number(orjson.dumps({"barcode": looks_like_visa}))
    assert body_holds_card_number(orjson.dumps({"note": looks_like_visa}))
    assert body_holds_card_number(orjson.dumps({"barcode": CARDS["visa"]}))


def test_our_ids_pass_by_the_thousand() -> None:
    """Ids with digits in a row are ours."""
    body = {"ids": [new_id("ord") for _ in range(2_000)]}
    assert not body_holds_card_number(orjson.dumps(body))
