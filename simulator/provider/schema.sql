-- The provider's store.  Amounts are integer minor units, times POSIX seconds.

CREATE TABLE IF NOT EXISTS payments (
    payment_id      TEXT PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    order_reference TEXT NOT NULL,
    method          TEXT NOT NULL,
    currency        TEXT NOT NULL,
    amount_minor    INTEGER NOT NULL CHECK (amount_minor > 0),
    captured_minor  INTEGER NOT NULL CHECK (captured_minor BETWEEN 0 AND amount_minor),
    refunded_minor  INTEGER NOT NULL CHECK (refunded_minor BETWEEN 0 AND captured_minor),
    status          TEXT NOT NULL,
    code            TEXT,
    version         INTEGER NOT NULL,
    created_at_s    REAL NOT NULL,
    planned_status  TEXT NOT NULL,
    settle_at_s     REAL NOT NULL,
    duplicates      INTEGER NOT NULL,
    wire            TEXT NOT NULL DEFAULT 'sandbox',
    metadata        TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX IF NOT EXISTS payments_unsettled ON payments (settle_at_s) WHERE status = 'processing';

-- Everything that took effect, in order: what a reconciliation compares with.
CREATE TABLE IF NOT EXISTS operations (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id    TEXT NOT NULL UNIQUE,
    payment_id      TEXT NOT NULL REFERENCES payments,
    kind            TEXT NOT NULL,
    amount_minor    INTEGER NOT NULL,
    currency        TEXT NOT NULL,
    order_reference TEXT NOT NULL,
    idempotency_key TEXT NOT NULL UNIQUE,
    at_s            REAL NOT NULL,
    metadata        TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX IF NOT EXISTS operations_of_payment ON operations (payment_id, seq);

-- One row an idempotency key.  answer is the payment as first answered; NULL while processing.
-- payment_id is NULL for a request that was lost on purpose, so that it is lost only once.
CREATE TABLE IF NOT EXISTS requests (
    idempotency_key TEXT PRIMARY KEY,
    fingerprint     TEXT NOT NULL,
    payment_id      TEXT REFERENCES payments,
    answer          BLOB
) STRICT, WITHOUT ROWID;

-- One row a copy to be sent; late copies wait to arrive after newer events.
CREATE TABLE IF NOT EXISTS deliveries (
    delivery_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id        TEXT NOT NULL,
    payment_id      TEXT NOT NULL REFERENCES payments,
    body            BLOB NOT NULL,
    late            INTEGER NOT NULL,
    due_at_s        REAL NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    state           TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead'))
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at_s) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_late ON deliveries (payment_id)
    WHERE state = 'pending' AND late = 1;

CREATE TABLE IF NOT EXISTS disputes (
    dispute_id      TEXT PRIMARY KEY,
    payment_id      TEXT NOT NULL REFERENCES payments,
    amount_minor    INTEGER NOT NULL CHECK (amount_minor > 0),
    reason          TEXT NOT NULL,
    status          TEXT NOT NULL,
    opened_at_s     REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS disputes_of_payment ON disputes (payment_id);

-- What a wire keeps beside payments, such as the orders that one of them asks for first.
CREATE TABLE IF NOT EXISTS documents (
    document_id     TEXT PRIMARY KEY,
    wire            TEXT NOT NULL,
    name            TEXT NOT NULL,
    body            TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS documents_by_name ON documents (wire, name);
CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_reference);

CREATE TABLE IF NOT EXISTS control (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    settings        TEXT NOT NULL
) STRICT;
