-- The balance of every account at the end of a day, a row each currency and account.
--   $1 the day, or null for now
WITH closed_until AS (
    SELECT max(day) AS day FROM ledger_days WHERE $1::date IS NULL OR day <= $1::date
), fixed AS (
    SELECT DISTINCT ON (b.currency, b.account, b.party) b.currency, b.account, b.balance_minor
    FROM ledger_day_balances b, closed_until c WHERE b.day <= c.day
    ORDER BY b.currency, b.account, b.party, b.day DESC
), since AS (
    SELECT t.currency, p.account, p.amount_minor
    FROM closed_until c, ledger_transactions t
    JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE (c.day IS NULL OR t.day > c.day) AND ($1::date IS NULL OR t.day <= $1::date)
)
SELECT currency, account, sum(balance_minor)::bigint AS balance_minor
FROM (SELECT * FROM fixed UNION ALL SELECT * FROM since) both_of_them
GROUP BY 1, 2 ORDER BY 1, 2
