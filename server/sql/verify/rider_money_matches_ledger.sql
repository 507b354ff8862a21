-- A rider's cash is what the ledger says: taken at doors, less what was handed in or kept; and what
-- riders are owed is what they earned, less what settlements have paid.
-- Returns rider ids with what is wrong.
WITH booked AS (
    SELECT p.party AS rider_id, t.currency,
           coalesce(sum(p.amount_minor) FILTER (WHERE p.account = 'rider_cash'), 0) AS cash,
           coalesce(-sum(p.amount_minor) FILTER (WHERE p.account = 'rider_payable'), 0) AS owed,
           coalesce(-sum(p.amount_minor) FILTER (
               WHERE p.account = 'rider_cash' AND t.kind = 'rider_deposit'), 0) AS handed_in
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE p.account IN ('rider_cash', 'rider_payable') GROUP BY 1, 2
), taken AS (
    SELECT o.rider_id, o.currency, sum(p.amount_minor) AS amount
    FROM payment_operations p JOIN orders o ON o.id = p.order_id
    WHERE p.gateway = 'cash' AND p.kind = 'capture' AND p.status = 'succeeded' GROUP BY 1, 2
), deposited AS (
    SELECT rider_id, currency, sum(amount_minor) AS amount FROM rider_deposits GROUP BY 1, 2
), earned AS (
    SELECT rider_id, currency, sum(amount_minor) AS amount FROM earnings GROUP BY 1, 2
), settled AS (
    SELECT rider_id, currency, sum(cash_minor) AS cash, sum(cash_minor + paid_minor) AS amount
    FROM settlement_lines GROUP BY 1, 2
), told AS (
    SELECT rider_id, currency,
           coalesce(b.cash, 0) AS cash, coalesce(c.cash_minor, 0) AS shown,
           coalesce(k.amount, 0) - coalesce(d.amount, 0) - coalesce(s.cash, 0) AS cash_due,
           coalesce(b.owed, 0) AS owed,
           coalesce(e.amount, 0) - coalesce(s.amount, 0) AS owed_due,
           coalesce(b.handed_in, 0) AS handed_in, coalesce(d.amount, 0) AS deposited
    FROM booked b
    FULL JOIN rider_cash c USING (rider_id, currency)
    FULL JOIN taken k USING (rider_id, currency)
    FULL JOIN deposited d USING (rider_id, currency)
    FULL JOIN earned e USING (rider_id, currency)
    FULL JOIN settled s USING (rider_id, currency)
)
SELECT rider_id AS id, currency, CASE
        WHEN cash <> shown THEN 'shown with other cash than booked'
        WHEN cash <> cash_due THEN 'holds other cash than was taken and handed in'
        WHEN handed_in <> deposited THEN 'deposits that are not booked'
        ELSE 'is owed another amount than was earned and paid'
    END AS wrong, cash, shown, cash_due, owed, owed_due
FROM told
WHERE cash <> shown OR cash <> cash_due OR handed_in <> deposited OR owed <> owed_due
