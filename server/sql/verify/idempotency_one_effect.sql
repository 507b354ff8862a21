-- One key, one order; one quote, one order.
-- Returns ids of orders, keys (actor/key) and quotes.
SELECT k.order_id AS id, 'two keys made one order' AS wrong
FROM idempotency_keys k WHERE k.order_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1
UNION ALL
SELECT k.actor || '/' || k.key, 'its order is not there'
FROM idempotency_keys k LEFT JOIN orders o ON o.id = k.order_id
WHERE k.order_id IS NOT NULL AND o.id IS NULL
UNION ALL
SELECT o.quote_id, 'two orders of one quote' FROM orders o GROUP BY 1 HAVING count(*) > 1
UNION ALL
SELECT o.id, 'its quote does not know it'
FROM orders o LEFT JOIN quotes q ON q.id = o.quote_id
WHERE q.order_id IS DISTINCT FROM o.id
UNION ALL
SELECT q.id, 'its order is not there'
FROM quotes q LEFT JOIN orders o ON o.id = q.order_id
WHERE q.order_id IS NOT NULL AND o.id IS NULL
