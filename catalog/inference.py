"""Brand, temperature, tax class and measure of a product that states none: pure, from word rules.

The rules are data (`data/inference.toml`, with their grammar); what they cannot tell stays at the
cautious default: no brand, ambient, standard tax. They classify a scraped assortment well enough
to run a shop on it; a catalogue of one's own states these fields itself.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from catalog.model import (
    Category,
    TaxClass,
    Temperature,
    mass_label,
    piece_label,
    volume_label,
)

# What the scraped assortment puts down for each piece of a thing sold by the piece.
PIECE_PLACEHOLDER_G = 58


@dataclass(frozen=True, slots=True)
class Measure:
    """How much is in a unit: its label, its mass, and its volume if it is sold by volume."""

    unit: str
    weight_g: int
    volume_ml: int | None


@dataclass(frozen=True, slots=True)
class _Rule:
    value: str
    words: re.Pattern[str] | None
    any_of: frozenset[str]
    all_of: frozenset[str]

    def matches(self, folded_name: str, category_slugs: frozenset[str]) -> bool:
        return (
            (self.words is None or self.words.search(folded_name) is not None)
            and (not self.any_of or not self.any_of.isdisjoint(category_slugs))
            and (not self.all_of or category_slugs <= self.all_of)
        )


@dataclass(frozen=True, slots=True)
class _Rules:
    temperature: tuple[_Rule, ...]
    tax_class: tuple[_Rule, ...]
    liquid: re.Pattern[str]
    solid: re.Pattern[str]
    counted: re.Pattern[str]
    brand_by_words: Mapping[tuple[str, ...], str]
    brand_words_max: int


def fold(text: str) -> str:
    """`text` as lower-case ASCII words: what names are compared by (`"Ching’s"` → `"chings"`)."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall(r"[a-z0-9]+", re.sub(r"['’`\u0300-\u036f]", "", decomposed)))


def infer_brand(name: str) -> str | None:
    """The known brand whose words open `name` (the longest one), or None."""
    rules = _rules()
    words = tuple(fold(name).split())
    for length in range(min(rules.brand_words_max, len(words)), 0, -1):
        if (brand := rules.brand_by_words.get(words[:length])) is not None:
            return brand
    return None


def infer_temperature(name: str, categories: Sequence[str]) -> Temperature:
    """Where a product of this name under these category titles must be kept."""
    value = _first_match(_rules().temperature, name, categories)
    return Temperature.AMBIENT if value is None else Temperature(value)


def infer_tax_class(name: str, categories: Sequence[str]) -> TaxClass:
    """The tax class of a product of this name under these category titles."""
    value = _first_match(_rules().tax_class, name, categories)
    return TaxClass.STANDARD if value is None else TaxClass(value)


def infer_measure(name: str, *, weight_g: int, quantity: int) -> Measure:
    """Read the pair `weightInGms`, `quantity` of the scraped assortment.

    `quantity` counts pieces where the weight is 58 g each (a placeholder: the source knows no
    weight, so the mass is as rough as that), or where both agree on a thing that is counted
    (`"Pants"`, 24 and 24). Otherwise the weight is the measure, in millilitres for a liquid (the
    source writes one number for both, so 1 g stands for 1 ml). Where the two disagree (180 and
    190) the weight is believed.
    """
    rules = _rules()
    folded_name = fold(name)
    if quantity > 0 and weight_g == PIECE_PLACEHOLDER_G * quantity:
        return Measure(piece_label(quantity), weight_g, None)
    if weight_g == quantity and rules.counted.search(folded_name):
        return Measure(piece_label(quantity), weight_g, None)
    if rules.liquid.search(folded_name) and not rules.solid.search(folded_name):
        return Measure(volume_label(weight_g), weight_g, weight_g)
    return Measure(mass_label(weight_g), weight_g, None)


def _first_match(rules: tuple[_Rule, ...], name: str, categories: Sequence[str]) -> str | None:
    folded_name = fold(name)
    slugs = frozenset(Category.of(title).slug for title in categories)
    return next((rule.value for rule in rules if rule.matches(folded_name, slugs)), None)


def _word_pattern(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(re.escape(fold(word)) for word in words) + r")\b")


def _parse_rules(tables: Sequence[Mapping[str, str | list[str]]]) -> tuple[_Rule, ...]:
    return tuple(
        _Rule(
            value=str(table["value"]),
            words=_word_pattern(list(table["words"])) if "words" in table else None,
            any_of=frozenset(table.get("any_of", ())),
            all_of=frozenset(table.get("all_of", ())),
        )
        for table in tables
    )


@cache
def _rules() -> _Rules:
    source = resources.files("catalog").joinpath("data/inference.toml").read_text(encoding="utf-8")
    data = tomllib.loads(source)
    brand_by_words = {tuple(fold(brand).split()): brand for brand in data["brands"]}
    return _Rules(
        temperature=_parse_rules(data["temperature"]),
        tax_class=_parse_rules(data["tax_class"]),
        liquid=_word_pattern(data["liquid_words"]),
        solid=_word_pattern(data["solid_words"]),
        counted=_word_pattern(data["counted_words"]),
        brand_by_words=brand_by_words,
        brand_words_max=max(len(words) for words in brand_by_words),
    )
