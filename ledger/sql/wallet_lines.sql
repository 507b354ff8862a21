-- Movements of a customer's wallet, newest first; positive is money in.
--   $1 user id, $2 and $3 transaction id and n of the last row seen ('' at first), $4 how many
SELECT t.id AS transaction_id, p.n, t.kind, t.order_id, t.currency, t.at,
       -p.amount_minor AS amount_minor
FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
WHERE p.account = 'wallet' AND p.party = $1::text
  AND ($2::text = '' OR (p.transaction_id, p.n) < ($2::text, $3::smallint))
ORDER BY p.transaction_id DESC, p.n DESC LIMIT $4::integer
