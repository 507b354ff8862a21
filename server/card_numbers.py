"""No card number reaches this server: a request that holds one is refused before anything is kept.

Apps send tokens; a number that comes all the same (in a note, a comment, or where the token
belongs) would make everything that it touches subject to the card schemes' rules.  Every request is
looked at, whatever its route: its body, path, query and the header that is stored.  Webhooks of
gateways are not: they are signed, what we keep of them is picked field by field, and their bank
references look like anything.

What counts as a card number: 13 to 19 digits that begin like a card of a known scheme, in its
length, with a valid Luhn digit, written as one or in the groups that cards are written in.  What
does not: barcodes (a field of that name, or a valid GTIN check digit), telephone numbers with their
``+``, UUIDs, and our own ids.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.errors import Invalid
from server.metrics import CARD_NUMBERS

EXEMPT_PREFIX: Final = "/v1/webhooks/"
BARCODE_FIELDS: Final = frozenset({"barcode", "gtin", "ean"})
# GTIN-14 is the longest barcode; EAN-13 is what products carry.
BARCODE_DIGITS_MAX: Final = 14
PHONE_DIGITS_MAX: Final = 15

_READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BINARY: Final = ("image/", "application/octet-stream")

# The whole cost for an ordinary body: digits become noughts, spaces and dashes go, and thirteen
# noughts are looked for.  2 to 4 us a KiB; a regular expression over the digits took 50.
_NOUGHTS: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_SEPARATORS: Final = b" -"
_SHORTEST: Final = b"0" * 13
_LONG = re.compile(rb"0{13,}")
_BEHIND_FRACTION = re.compile(rb"\.0+[ -]+0")
# Digits with spaces and dashes of any kind between them.
_RUN = re.compile(r"\+?\d[\d \-\u2010-\u2015\u2212]{11,}\d")
_DIGITS = re.compile(r"\d+")
_FRACTION = re.compile(r"\d\.")
_OURS = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\b[a-z]{3}_[0-9A-HJKMNP-TV-Z]{26}\b"
)
# The groups in which cards print their number; digit by digit and in pairs are for the inventive.
_GROUPINGS: Final = frozenset(
    {
        (4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 1), (4, 4, 5), (4, 6, 5), (4, 6, 4), (8, 8),
        *((1,) * n for n in range(13, 20)),
        *((2,) * n for n in (7, 8, 9)),
        *((n,) for n in range(13, 20)),
    }
)  # fmt: skip
_GROUPS_MAX: Final = 19


class CardNumberRefused(Invalid):
    """The request holds a card number; nothing of it was kept."""

    code = "card_number_refused"
    title = "Send a token, never a card number"


class CardNumberGuard:
    """Middleware inside the body limit.  Raises CardNumberRefused."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT_PREFIX):
            await self.app(scope, receive, send)
            return
        _check_head(scope)
        if scope["method"] in _READ_METHODS:
            await self.app(scope, receive, send)
            return
        message = await receive()
        chunks = [message.get("body", b"")]
        while message.get("more_body", False):
            message = await receive()
            chunks.append(message.get("body", b""))
        if message["type"] == "http.disconnect":
            # Nobody waits for the answer; the framework finds out by itself.
            await self.app(scope, _again(message, receive), send)
            return
        body = b"".join(chunks) if len(chunks) > 1 else chunks[0]
        if _is_suspect(body) and not _is_binary(scope) and body_holds_card_number(body):
            _refuse()
        whole: Message = {"type": "http.request", "body": body, "more_body": False}
        await self.app(scope, _again(whole, receive), send)


def _again(message: Message, receive: Receive) -> Receive:
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return message

    return receive_again


def _check_head(scope: Scope) -> None:
    if scope["query_string"]:
        asked = unquote_plus(scope["query_string"].decode("latin-1"))
        for pair in asked.split("&"):
            name, _, value = pair.partition("=")
            if holds_card_number(value or name, barcode=name in BARCODE_FIELDS):
                _refuse()
    if _has_long_run(scope["path"].encode()) and holds_card_number(scope["path"]):
        _refuse()
    for name, value in scope["headers"]:
        # The server gives header names in lower case.
        stored = name == b"idempotency-key" and _has_long_run(value)
        if stored and holds_card_number(value.decode("latin-1")):
            _refuse()


def _refuse() -> None:
    CARD_NUMBERS.inc()
    raise CardNumberRefused(
        "The request holds a card number. Send the token that the payment form gave you;"
        " nothing was kept."
    )


def _is_binary(scope: Scope) -> bool:
    return Headers(scope=scope).get("content-type", "").startswith(_BINARY)


def _is_suspect(body: bytes) -> bool:
    """Whether a body has to be read value by value: a number, or what may turn out to be one."""
    if b"\\u" in body:
        return True
    if body.isascii():
        return _has_long_run(body)
    return _RUN.search(_plain(body.decode("utf-8", "ignore"))) is not None


def _has_long_run(text: bytes) -> bool:
    """Whether there are thirteen digits in a row that are not the fraction of a coordinate."""
    noughts = text.translate(_NOUGHTS, _SEPARATORS)
    if _SHORTEST not in noughts:
        return False
    if any(noughts[run.start() - 2 : run.start()] != b"0." for run in _LONG.finditer(noughts)):
        return True
    # A fraction may have more digits behind it, a space apart.
    return _BEHIND_FRACTION.search(text.translate(_NOUGHTS)) is not None


def _plain(text: str) -> str:
    """Full-width digits and hard spaces as plain ones; digits of other scripts stay as they are."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def body_holds_card_number(body: bytes) -> bool:
    """Whether a JSON body (or any other text) holds a card number in one of its values."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return holds_card_number(body.decode("utf-8", "ignore"))
    return any(
        holds_card_number(text, barcode=name in BARCODE_FIELDS)
        for name, text in _texts("", content)
    )


def _texts(name: str, value: object) -> Iterator[tuple[str, str]]:
    """(field, text) of every string and whole number, and of names of fields too."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, int):
        yield name, str(value)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield "", key
            yield from _texts(key, item)


def holds_card_number(text: str, *, barcode: bool = False) -> bool:
    """Whether a text holds a card number.  ``barcode``: it stands where a barcode belongs."""
    if len(text) < 13:
        return False
    text = _OURS.sub("_", _plain(text))
    return any(_is_card_run(text, run, barcode) for run in _RUN.finditer(text))


def _is_card_run(text: str, run: re.Match[str], barcode: bool) -> bool:
    groups = _DIGITS.findall(run.group())
    if run.group().startswith("+") and sum(map(len, groups)) <= PHONE_DIGITS_MAX:
        return False
    if _FRACTION.fullmatch(text, max(0, run.start() - 2), run.start()):
        groups = groups[1:]
    for first in range(len(groups)):
        for last in range(first + 1, min(len(groups), first + _GROUPS_MAX) + 1):
            window = groups[first:last]
            if tuple(map(len, window)) in _GROUPINGS and _is_card(
                "".join(window), barcode, grouped=len(window) > 1
            ):
                return True
    return False


def _is_card(written: str, barcode: bool, *, grouped: bool) -> bool:
    digits = [int(digit) for digit in written]
    if len(digits) <= BARCODE_DIGITS_MAX and (barcode or (not grouped and _is_gtin(digits))):
        return False
    return _has_card_prefix(digits) and _passes_luhn(digits)


def _passes_luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B: the sum with every second digit doubled, from the right."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_gtin(digits: list[int]) -> bool:
    """GS1 General Specifications, 7.9: weights 3 and 1 from the right."""
    return (sum(digits[-1::-2]) + 3 * sum(digits[-2::-2])) % 10 == 0


def _has_card_prefix(digits: list[int]) -> bool:
    """Issuer ranges of the schemes with the lengths that they give out (ISO/IEC 7812)."""
    length = len(digits)
    two = 10 * digits[0] + digits[1]
    four = 100 * two + 10 * digits[2] + digits[3]
    match digits[0]:
        case 4:  # Visa
            return length in (13, 16, 18, 19)
        case 2:  # Mastercard, Mir
            return length == 16 and (2221 <= four <= 2720 or 2200 <= four <= 2204)
        case 5:  # Mastercard, Maestro
            return (length == 16 and 51 <= two <= 55) or two == 50 or 56 <= two <= 58
        case 3:  # American Express, Diners Club, JCB
            if two in (34, 37):
                return length == 15
            if 3528 <= four <= 3589:
                return length >= 16
            return (two in (36, 38, 39) or 3000 <= four <= 3059 or four == 3095) and (
                length == 14 or length >= 16
            )
        case 6:  # Discover, UnionPay, RuPay, Maestro
            return True
        case 8:  # RuPay
            return length == 16 and two in (81, 82)
    return False
