-- Postings on an account, in the order of their days.
--   $1 account, $2 party or null for all, $3 first day or null, $4 last day or null, $5 how many
SELECT t.day, t.at, t.id AS transaction_id, p.n, t.kind, t.order_id, p.party, t.currency,
       p.amount_minor
FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
WHERE p.account = $1::text AND ($2::text IS NULL OR p.party = $2::text)
  AND ($3::date IS NULL OR t.day >= $3::date) AND ($4::date IS NULL OR t.day <= $4::date)
ORDER BY t.day, t.id, p.n LIMIT $5::integer
