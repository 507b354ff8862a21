-- Post a transaction with its postings; no row comes back when its key was posted before.
--   $1 transaction id, $2 key, $3 kind, $4 order id or null, $5 currency
--   $6 [{n, account, party, amount_minor}], $7 how many they are
--   $8 when it happened; null for now
-- All of them in one statement: a transaction that has its postings gets no further ones.
WITH posted AS (
    INSERT INTO ledger_transactions (id, key, kind, order_id, currency, size, at)
    VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $7::smallint,
            coalesce($8::timestamptz, darkstore_now()))
    ON CONFLICT (key) DO NOTHING
    RETURNING id
)
INSERT INTO ledger_postings (transaction_id, n, account, party, amount_minor)
SELECT posted.id, l.n, l.account, l.party, l.amount_minor
FROM posted, jsonb_to_recordset($6::text::jsonb)
    AS l(n smallint, account text, party text, amount_minor bigint)
RETURNING transaction_id
