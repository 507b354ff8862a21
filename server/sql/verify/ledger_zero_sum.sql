-- Double entry: the postings of every transaction, and of every currency, sum to zero.
-- Returns transaction ids, and currencies that do not balance.
SELECT t.id, t.kind, coalesce(sum(p.amount_minor), 0) AS off_by_minor
FROM ledger_transactions t LEFT JOIN ledger_postings p ON p.transaction_id = t.id
GROUP BY t.id, t.kind
HAVING coalesce(sum(p.amount_minor), 0) <> 0 OR count(p.n) < 2
UNION ALL
SELECT t.currency, 'currency', sum(p.amount_minor)
FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
GROUP BY t.currency HAVING sum(p.amount_minor) <> 0
