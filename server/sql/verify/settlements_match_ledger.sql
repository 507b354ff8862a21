-- Each line of a settlement is one transaction of the ledger, and nobody is paid twice for a day.
-- Returns line ids, and transactions that no line asked for.
WITH payouts AS (
    SELECT t.key, t.currency,
           sum(p.amount_minor) FILTER (WHERE p.account = 'rider_payable') AS owed,
           coalesce(-sum(p.amount_minor) FILTER (WHERE p.account = 'rider_cash'), 0) AS cash,
           coalesce(-sum(p.amount_minor) FILTER (WHERE p.account = 'payouts_in_transit'), 0)
               AS paid,
           min(p.party) AS rider_id
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.kind = 'rider_payout' GROUP BY 1, 2
)
SELECT coalesce(l.id, y.key) AS id, 'not what was posted' AS wrong,
       l.cash_minor + l.paid_minor AS line_minor, y.owed AS posted_minor
FROM settlement_lines l FULL JOIN payouts y ON y.key = l.transaction_key
WHERE l.id IS NULL OR y.key IS NULL OR y.rider_id <> l.rider_id OR y.currency <> l.currency
   OR y.cash <> l.cash_minor OR y.paid <> l.paid_minor OR y.owed <> l.cash_minor + l.paid_minor
UNION ALL
SELECT a.id, 'overlaps ' || b.id, NULL, NULL
FROM settlement_lines a
JOIN settlement_lines b ON b.rider_id = a.rider_id AND b.currency = a.currency AND b.id > a.id
    AND a.from_day <= b.until_day AND b.from_day <= a.until_day
