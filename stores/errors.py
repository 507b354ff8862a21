"""What can go wrong with stores and their stock, by name.

::

    Invalid
    └── CursorInvalid
    NotFound
    ├── CityNotFound
    ├── StoreNotFound
    └── StockNotFound     the store has no shelf for that product
    Conflict
    └── StockReserved     the units are promised to orders
"""

from __future__ import annotations

from kit.errors import Conflict, Invalid, NotFound


class CursorInvalid(Invalid):
    code = "cursor_invalid"
    title = "This cursor is not one of ours"


class CityNotFound(NotFound):
    code = "city_not_found"
    title = "There is no such city"


class StoreNotFound(NotFound):
    code = "store_not_found"
    title = "There is no such store"


class StockNotFound(NotFound):
    code = "stock_not_found"
    title = "The store has no shelf for that product"


class StockReserved(Conflict):
    """Carries ``on_hand`` and ``reserved`` units."""

    code = "stock_reserved"
    title = "The units are promised to orders"
