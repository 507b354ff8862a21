-- The ledger tells the same story as the orders (orders/deliveries.py, orders/payment_flow.py):
-- a delivered order is sold once, at its total; what was not delivered is booked back; a card is
-- captured whole and refunded after, cash is taken net; the wallet pays its part first and gets back
-- last (orders/refund_split.py); a fee is all that a cancelled order costs; and riders are owed what
-- their earnings say.
-- Returns order ids with what is wrong.
WITH booked AS (
    SELECT t.order_id,
           count(DISTINCT t.id) FILTER (WHERE t.kind = 'sale') AS sales,
           sum(p.amount_minor) FILTER (WHERE t.kind = 'sale' AND p.account = 'customer_receivable')
               AS sold,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'short_delivery' AND p.account = 'customer_receivable') AS short,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'adjustment' AND p.account = 'customer_receivable') AS adjusted,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'capture' AND p.account = 'customer_receivable') AS captured,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'refund' AND p.account = 'customer_receivable') AS refunded,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'wallet_spend' AND p.account = 'customer_receivable') AS wallet_spent,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'wallet_refund' AND p.account = 'customer_receivable') AS credited,
           sum(p.amount_minor) FILTER (
               WHERE t.kind = 'cancellation_fee' AND p.account = 'customer_receivable') AS fee,
           sum(p.amount_minor) FILTER (WHERE p.account = 'rider_payable') AS rider_payable,
           sum(p.amount_minor) FILTER (WHERE p.account = 'tips_payable') AS tips
    FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.order_id IS NOT NULL GROUP BY 1
), earned AS (
    SELECT order_id, sum(amount_minor) AS amount FROM earnings
    WHERE order_id IS NOT NULL GROUP BY 1
), open_refunds AS (
    SELECT order_id, sum(amount_minor) AS amount FROM payment_operations
    WHERE kind = 'refund' AND (status IN ('pending', 'unknown') OR code = 'charged_back')
    GROUP BY 1
), told AS (
    SELECT coalesce(o.id, b.order_id, e.order_id) AS id, o.id AS order_id,
           o.status = 'delivered' AS delivered,
           o.payment_status IN ('captured', 'partially_refunded', 'refunded', 'disputed') AS paid,
           o.payment_status IN ('partially_refunded', 'refunded', 'disputed') AS paid_back,
           o.total_minor, o.refunded_minor, o.wallet_minor, o.wallet_refunded_minor,
           o.total_minor - o.wallet_minor AS gateway_minor,
           -- Of what was missing: not taken at the door, and not taken from the wallet.
           CASE WHEN o.gateway = 'cash'
                THEN least(coalesce(-b.short, 0), o.total_minor - o.wallet_minor)
                ELSE 0 END AS not_taken,
           greatest(0, coalesce(-b.short, 0) - (o.total_minor - o.wallet_minor)) AS not_spent,
           CASE WHEN o.gateway IN ('cash', 'wallet') THEN 0
                ELSE o.refunded_minor - o.wallet_refunded_minor - coalesce(r.amount, 0)
           END AS gateway_back,
           b.sales, b.sold, b.short, b.adjusted, b.captured, b.refunded, b.wallet_spent, b.credited,
           coalesce(b.fee, 0) AS fee, least(coalesce(b.fee, 0), o.wallet_minor) AS wallet_fee,
           b.rider_payable, b.tips, coalesce(e.amount, 0) AS earned
    FROM orders o
    LEFT JOIN open_refunds r ON r.order_id = o.id
    FULL JOIN booked b ON b.order_id = o.id
    FULL JOIN earned e ON e.order_id = coalesce(o.id, b.order_id)
), judged AS (
    SELECT id, CASE
        WHEN order_id IS NULL THEN 'booked for no order'
        WHEN delivered AND coalesce(sales, 0) <> 1 THEN 'a delivered order has one sale'
        WHEN NOT delivered AND coalesce(sales, 0) <> 0 THEN 'sold without a delivery'
        WHEN delivered AND sold IS DISTINCT FROM total_minor THEN 'sold at another total'
        WHEN delivered AND coalesce(short, 0) + coalesce(adjusted, 0) <> -refunded_minor
            THEN 'the price changed by another amount'
        WHEN NOT delivered AND (coalesce(short, 0) <> 0 OR coalesce(adjusted, 0) <> 0)
            THEN 'the price changed without a delivery'
        WHEN paid AND delivered AND coalesce(captured, 0) <> not_taken - gateway_minor
            THEN 'captured another amount'
        WHEN paid AND NOT delivered AND coalesce(captured, 0) <> wallet_fee - fee
            THEN 'captured more or less than the fee'
        WHEN NOT paid AND coalesce(captured, 0) <> 0 THEN 'captured, but not paid'
        WHEN delivered AND coalesce(wallet_spent, 0) <> not_spent - wallet_minor
            THEN 'the wallet paid another amount'
        WHEN NOT delivered AND coalesce(wallet_spent, 0) <> -wallet_fee
            THEN 'the wallet paid more or less than its part of the fee'
        WHEN delivered AND coalesce(credited, 0) <> wallet_refunded_minor - not_spent
            THEN 'the wallet got back another amount'
        WHEN NOT delivered AND coalesce(credited, 0) <> 0 THEN 'credited without a delivery'
        WHEN paid_back AND coalesce(refunded, 0) <> gateway_back THEN 'refunded another amount'
        WHEN NOT paid_back AND coalesce(refunded, 0) <> 0 THEN 'refunded, but not paid back'
        WHEN fee <> 0 AND delivered THEN 'a fee on a delivered order'
        WHEN coalesce(rider_payable, 0) <> -earned THEN 'riders are owed another amount'
        WHEN coalesce(tips, 0) <> 0 THEN 'a tip that its rider did not get'
        WHEN delivered AND earned = 0 AND rider_payable IS NULL THEN 'nobody earned anything'
    END AS wrong
    FROM told
)
SELECT id, wrong FROM judged WHERE wrong IS NOT NULL
