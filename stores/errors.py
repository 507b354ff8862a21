"""What can go wrong with stores and their stock, by name.

::

    Invalid
    └── CursorInvalid
    NotFound
    ├── CityNotFound
    ├── StoreNotFound
    ├── StockNotFound     the store has no shelf for that product
    ├── CountNotFound
    ├── TransferNotFound
    ├── AlertNotFound
    └── LotNotFound       (stores.waste)
    Conflict
    ├── StockReserved     the units are promised to orders
    ├── StockExpired      only units past their date are left
    ├── DeliveryKnown     a delivery note is booked once
    ├── BinTaken          another product lies in that bin
    ├── CountOpen         somebody is counting that product
    ├── CountClosed       nothing is left to count or to decide
    ├── NotAvailable      fewer units can be sent than are wanted
    ├── InStock           there is nothing to wait for
    └── TooManyAlerts     a customer waits for so many products and no more
    Denied
    └── OwnCount          who counted does not approve
"""

from __future__ import annotations

from kit.errors import Conflict, Denied, Invalid, NotFound


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


class StockExpired(Conflict):
    code = "stock_expired"
    title = "Only units past their date are left"


class DeliveryKnown(Conflict):
    """Carries ``receipt_id`` of the first booking."""

    code = "delivery_known"
    title = "This delivery note has been booked"


class BinTaken(Conflict):
    code = "bin_taken"
    title = "The product cannot lie in that bin"


class CountOpen(Conflict):
    """Carries ``sku_ids`` that another count holds."""

    code = "count_open"
    title = "Somebody is counting that product"


class CountClosed(Conflict):
    code = "count_closed"
    title = "Nothing of that count is open"


class CountNotFound(NotFound):
    code = "count_not_found"
    title = "There is no such count"


class OwnCount(Denied):
    code = "own_count"
    title = "Somebody else has to approve what you counted"


class TransferNotFound(NotFound):
    code = "transfer_not_found"
    title = "There is no such transfer"


class NotAvailable(Conflict):
    """Carries ``lines`` of ``{sku_id, requested, available}``."""

    code = "stock_not_available"
    title = "There are not that many units to send"


class InStock(Conflict):
    code = "in_stock"
    title = "The product is there"


class TooManyAlerts(Conflict):
    code = "too_many_alerts"
    title = "You wait for many products already"


class AlertNotFound(NotFound):
    code = "alert_not_found"
    title = "There is no such alert"
