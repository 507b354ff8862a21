-- An order's money is taken at most once, and the order's state says whether it was.
-- What the wallet pays alone (or leaves nothing of at the door) is taken from no gateway.
-- Returns order ids.
WITH captures AS (
    SELECT order_id, count(*) FILTER (WHERE status NOT IN ('failed', 'declined')) AS asked,
           count(*) FILTER (WHERE status = 'succeeded') AS taken,
           sum(amount_minor) FILTER (WHERE status = 'succeeded') AS amount_minor
    FROM payment_operations WHERE kind = 'capture' GROUP BY 1
), posted AS (
    SELECT order_id, count(*) AS transactions FROM ledger_transactions
    WHERE kind = 'capture' GROUP BY 1
)
SELECT o.id, o.payment_status, coalesce(c.asked, 0) AS asked, coalesce(c.taken, 0) AS taken,
       coalesce(p.transactions, 0) AS posted
FROM orders o
LEFT JOIN captures c ON c.order_id = o.id
LEFT JOIN posted p ON p.order_id = o.id
WHERE coalesce(c.asked, 0) > 1 OR coalesce(c.taken, 0) > 1
   OR coalesce(c.taken, 0) <> coalesce(p.transactions, 0)
   OR (coalesce(c.taken, 0) = 1) <> (o.payment_status IN
       ('captured', 'partially_refunded', 'refunded', 'disputed') AND NOT (
            o.gateway = 'wallet' OR (o.gateway = 'cash' AND o.wallet_minor > 0
                AND coalesce(c.taken, 0) = 0 AND o.refunded_minor >= o.total_minor - o.wallet_minor)))
   OR c.amount_minor > o.total_minor
