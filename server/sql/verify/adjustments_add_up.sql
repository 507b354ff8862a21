-- Every change of an order's price is a row, and the rows explain the price (orders/adjustments.py):
-- their sum is what the order and its lines say was refunded, those after the delivery are in the
-- ledger once and at their amount, and no gateway is asked to send back more than it captured.
-- Returns order ids with what is wrong.
WITH summed AS (
    SELECT order_id, coalesce(sum(items_minor + tax_minor) FILTER (WHERE kind <> 'fee'), 0) AS back,
           coalesce(-sum(items_minor + tax_minor) FILTER (WHERE kind = 'fee'), 0) AS fee
    FROM order_adjustments GROUP BY 1
), lines AS (
    SELECT l.order_id, l.line_id, l.refunded_minor, coalesce(sum(a.items_minor + a.tax_minor), 0) AS back
    FROM order_lines l
    LEFT JOIN order_adjustments a ON a.order_id = l.order_id AND a.line_id = l.line_id
    GROUP BY 1, 2, 3
), posted AS (
    SELECT t.key, t.order_id, -sum(p.amount_minor) AS amount
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.kind = 'adjustment' AND p.account = 'customer_receivable' GROUP BY 1, 2
), expected AS (
    SELECT 'adjustment:' || id AS key, order_id, items_minor + tax_minor AS amount
    FROM order_adjustments WHERE after_delivery AND items_minor + tax_minor <> 0
), asked AS (
    SELECT order_id,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'refund'
               AND status NOT IN ('failed', 'declined')), 0) AS back,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'capture'
               AND status = 'succeeded'), 0) AS captured
    FROM payment_operations GROUP BY 1
)
SELECT o.id, 'refunded another sum than its adjustments' AS wrong
FROM orders o LEFT JOIN summed s ON s.order_id = o.id
WHERE o.refunded_minor <> coalesce(s.back, 0)
UNION ALL
SELECT order_id, 'a line refunded another sum' FROM lines WHERE refunded_minor <> back
UNION ALL
SELECT coalesce(e.order_id, p.order_id), 'an adjustment posted never, twice or at another amount'
FROM expected e FULL JOIN posted p USING (key)
WHERE e.amount IS DISTINCT FROM p.amount
UNION ALL
SELECT s.order_id, 'a fee of an order that was not undeliverable, or not posted'
FROM summed s JOIN orders o ON o.id = s.order_id
WHERE s.fee <> 0 AND (o.status NOT IN ('undeliverable', 'returned') OR NOT EXISTS (
    SELECT 1 FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.key = 'cancellation:' || o.id AND p.account = 'customer_receivable'
      AND p.amount_minor = s.fee))
UNION ALL
SELECT order_id, 'more asked back than captured' FROM asked WHERE back > captured
