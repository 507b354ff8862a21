-- The ledger tells the same story as the orders (orders/deliveries.py, orders/payment_flow.py):
-- a delivered order is sold once, at its total; what was not delivered is booked back; a card is
-- captured whole and refunded after, cash is taken net; a fee is all that a cancelled order costs;
-- and riders are owed what their earnings say.
-- Returns order ids with what is wrong.
WITH booked AS (
    SELECT t.order_id,
           count(DISTINCT t.id) FILTER (WHERE t.kind = 'sale') AS sales,
           sum(p.amount_minor) FILTER (WHERE t.kind = 'sale' AND p.account = 'customer_receivable')
               AS sold,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'short_delivery' AND p.account = 'customer_receivable') AS short,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'capture' AND p.account = 'customer_receivable') AS captured,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'refund' AND p.account = 'customer_receivable') AS refunded,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'cancellation_fee' AND p.account = 'customer_receivable') AS fee,
           sum(p.amount_minor) FILTER (WHERE p.account = 'rider_payable') AS rider_payable,
           sum(p.amount_minor) FILTER (WHERE p.account = 'tips_payable') AS tips
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.order_id IS NOT NULL GROUP BY 1
), earned AS (
    SELECT order_id, sum(amount_minor) AS amount FROM earnings GROUP BY 1
), told AS (
    SELECT coalesce(o.id, b.order_id, e.order_id) AS id, o.id AS order_id,
           o.status = 'delivered' AS delivered,
           o.payment_status IN ('captured', 'partially_refunded', 'refunded', 'disputed') AS paid,
           o.payment_status IN ('partially_refunded', 'refunded') AS paid_back,
           o.total_minor, o.refunded_minor,
           CASE WHEN o.gateway = 'cash' THEN o.refunded_minor ELSE 0 END AS not_taken,
           b.sales, b.sold, b.short, b.captured, b.refunded, b.fee, b.rider_payable, b.tips,
           coalesce(e.amount, 0) AS earned
    FROM orders o
    FULL JOIN booked b ON b.order_id = o.id
    FULL JOIN earned e ON e.order_id = coalesce(o.id, b.order_id)
), judged AS (
    SELECT id, CASE
        WHEN order_id IS NULL THEN 'booked for no order'
        WHEN delivered AND coalesce(sales, 0) <> 1 THEN 'a delivered order has one sale'
        WHEN NOT delivered AND coalesce(sales, 0) <> 0 THEN 'sold without a delivery'
        WHEN delivered AND sold IS DISTINCT FROM total_minor THEN 'sold at another total'
        WHEN delivered AND coalesce(short, 0) <> -refunded_minor THEN 'short by another amount'
        WHEN NOT delivered AND coalesce(short, 0) <> 0 THEN 'short without a delivery'
        WHEN paid AND delivered AND coalesce(captured, 0) <> not_taken - total_minor
            THEN 'captured another amount'
        WHEN paid AND NOT delivered AND coalesce(captured, 0) <> -coalesce(fee, 0)
            THEN 'captured more or less than the fee'
        WHEN NOT paid AND coalesce(captured, 0) <> 0 THEN 'captured, but not paid'
        WHEN paid_back AND coalesce(refunded, 0) <> refunded_minor THEN 'refunded another amount'
        WHEN NOT paid_back AND coalesce(refunded, 0) <> 0 THEN 'refunded, but not paid back'
        WHEN coalesce(fee, 0) <> 0 AND delivered THEN 'a fee on a delivered order'
        WHEN coalesce(rider_payable, 0) <> -earned THEN 'riders are owed another amount'
        WHEN coalesce(tips, 0) <> 0 THEN 'a tip that its rider did not get'
        WHEN delivered AND earned = 0 AND rider_payable IS NULL THEN 'nobody earned anything'
    END AS wrong
    FROM told
)
SELECT id, wrong FROM judged WHERE wrong IS NOT NULL
