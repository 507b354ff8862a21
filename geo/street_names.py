"""Made-up names for made-up streets and districts, no two alike."""

import random

_STEMS = (
    "Alder", "Amber", "Ash", "Barley", "Beacon", "Birch", "Bramble", "Cedar", "Chestnut",
    "Clover", "Copper", "Cotton", "Crane", "Elder", "Ember", "Fern", "Flint", "Foxglove",
    "Garnet", "Hazel", "Heron", "Hop", "Ivory", "Jasmine", "Juniper", "Kestrel", "Lantern",
    "Larch", "Linden", "Lotus", "Maple", "Marigold", "Mint", "Mulberry", "Neem", "Olive",
    "Orchard", "Otter", "Pepper", "Pine", "Plum", "Poplar", "Quarry", "Quince", "Raven",
    "Rowan", "Saffron", "Sage", "Sandal", "Silver", "Sparrow", "Tamarind", "Teal", "Thistle",
    "Tulip", "Umber", "Violet", "Walnut", "Willow", "Yarrow",
)  # fmt: skip
_ENDINGS = ("", "bank", "brook", "croft", "field", "gate", "hill", "mead", "side", "well", "wood")


def unlike_names(rng: random.Random, count: int) -> list[str]:
    """``count`` different names without a word for what they name, as "Fernbrook".

    Raises ValueError if there are not so many.
    """
    every = [stem + ending for ending in _ENDINGS for stem in _STEMS]
    if count > len(every):
        raise ValueError(f"there are {len(every)} made-up names, not {count}")
    return rng.sample(every, count)
