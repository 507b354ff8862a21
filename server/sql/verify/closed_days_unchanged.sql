-- A closed day still says what it said when it was closed: the same movements, the same balances.
-- Returns accounts with their day.
WITH closed AS (
    SELECT max(day) AS until FROM ledger_days
), moved AS (
    SELECT t.day, t.currency, p.account, coalesce(p.party, '') AS party,
           sum(p.amount_minor) AS amount
    FROM closed c, ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.day <= c.until GROUP BY 1, 2, 3, 4
), running AS (
    SELECT *, sum(amount) OVER (PARTITION BY currency, account, party ORDER BY day) AS balance
    FROM moved
), counted AS (
    SELECT t.day, count(*) AS transactions FROM closed c, ledger_transactions t
    WHERE t.day <= c.until GROUP BY 1
)
SELECT concat_ws(' ', day, account, nullif(party, '')) AS id, 'another balance' AS wrong,
       r.amount AS moved_minor, b.moved_minor AS fixed_minor
FROM running r FULL JOIN ledger_day_balances b USING (day, currency, account, party)
WHERE r.amount IS DISTINCT FROM b.moved_minor OR r.balance IS DISTINCT FROM b.balance_minor
UNION ALL
SELECT day::text, 'another number of transactions', n.transactions, d.transactions
FROM counted n FULL JOIN ledger_days d USING (day)
WHERE coalesce(n.transactions, 0) <> coalesce(d.transactions, 0)
