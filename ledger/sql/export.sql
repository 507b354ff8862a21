-- Postings with their transactions, by transaction id, page by page.
--   $1 first day or null, $2 last day or null
--   $3 the last row's transaction id ('' at first), $4 its n, $5 how many
SELECT t.day, t.at, t.id AS transaction_id, p.n, t.kind, t.key, t.order_id, p.account, p.party,
       t.currency, greatest(p.amount_minor, 0) AS debit_minor,
       greatest(-p.amount_minor, 0) AS credit_minor
FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
WHERE ($1::date IS NULL OR t.day >= $1::date) AND ($2::date IS NULL OR t.day <= $2::date)
  AND (p.transaction_id, p.n) > ($3::text, $4::smallint)
ORDER BY p.transaction_id, p.n LIMIT $5::integer
