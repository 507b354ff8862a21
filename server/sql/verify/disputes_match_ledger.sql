-- A dispute is booked once when it opens and once when it is decided, and holds its order's payment
-- in `disputed` in between.
-- Returns dispute ids (and orders that are disputed by nobody) with what is wrong.
WITH booked AS (
    SELECT split_part(t.key, ':', 2) AS id,
           count(DISTINCT t.id) FILTER (WHERE t.kind = 'dispute_opened') AS opened,
           count(DISTINCT t.id) FILTER (WHERE t.kind = 'dispute_won') AS won,
           count(DISTINCT t.id) FILTER (WHERE t.kind = 'dispute_lost') AS lost,
           coalesce(sum(p.amount_minor) FILTER (WHERE p.account = 'chargebacks_receivable'), 0)
               AS held
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.kind IN ('dispute_opened', 'dispute_won', 'dispute_lost') GROUP BY 1
), judged AS (
    SELECT coalesce(d.id, b.id) AS id, CASE
        WHEN d.id IS NULL THEN 'booked for no dispute'
        WHEN coalesce(b.opened, 0) <> 1 THEN 'not booked once when it opened'
        WHEN b.won <> (d.status = 'won')::integer OR b.lost <> (d.status = 'lost')::integer
            THEN 'decided otherwise than booked'
        WHEN b.held <> CASE WHEN d.status = 'opened' THEN d.amount_minor ELSE 0 END
            THEN 'another amount is held'
        WHEN d.status = 'opened' AND o.payment_status NOT IN ('disputed', 'refunded')
            THEN 'the payment is not disputed'
    END AS wrong
    FROM disputes d
    FULL JOIN booked b ON b.id = d.id
    LEFT JOIN orders o ON o.id = d.order_id
)
SELECT id, wrong FROM judged WHERE wrong IS NOT NULL
UNION ALL
SELECT o.id, 'disputed by nobody' FROM orders o
WHERE o.payment_status = 'disputed' AND NOT EXISTS (
    SELECT 1 FROM disputes d WHERE d.order_id = o.id AND d.status = 'opened')
