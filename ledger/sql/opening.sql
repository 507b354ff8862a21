-- The balance of an account before a day, a row each currency that it ever had.
--   $1 account, $2 party or null for all, $3 the day, or null for the beginning
SELECT t.currency,
       coalesce(sum(p.amount_minor) FILTER (WHERE t.day < $3::date), 0)::bigint AS balance_minor
FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
WHERE p.account = $1::text AND ($2::text IS NULL OR p.party = $2::text)
GROUP BY 1
