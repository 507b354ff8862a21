"""The garbage collector of a long-lived process.

A started process holds some half a million objects that live as long as it does (modules, schemas,
statements), and Python's collector walks through all of them again and again.  Told once that they
are permanent it looks only at what came later, and, since nearly all of that dies by reference
counting, less often.
"""

from __future__ import annotations

import gc
from typing import Final

# New objects before the youngest are looked at (700 by default), and how often the older ones.
_THRESHOLDS: Final = (20_000, 20, 20)


def settle() -> None:
    """Call once, when everything is loaded and connected."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
