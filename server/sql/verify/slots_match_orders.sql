-- A delivery slot counts the orders that have a place in it, and no more than it has room for.
-- An order that ended before anybody picked for it has given its place back; every other
-- scheduled order has one.
-- Returns slots with their two counts, and orders whose place is wrong.
WITH held AS (
    SELECT store_id, slot_start, count(*) AS orders FROM orders WHERE slot_held GROUP BY 1, 2
)
SELECT coalesce(d.store_id, h.store_id) || ' ' || coalesce(d.starts_at, h.slot_start) AS id,
       coalesce(d.taken, 0) AS taken, coalesce(h.orders, 0) AS orders, d.capacity
FROM delivery_slots d
FULL JOIN held h ON h.store_id = d.store_id AND h.slot_start = d.starts_at
WHERE coalesce(d.taken, 0) <> coalesce(h.orders, 0) OR d.taken > d.capacity
UNION ALL
SELECT o.id, NULL, NULL, NULL
FROM orders o
WHERE (o.slot_held AND o.slot_start IS NULL)
   OR (o.slot_start IS NOT NULL AND o.slot_held = (
           o.status IN ('payment_failed', 'cancelled')
           AND NOT EXISTS (SELECT 1 FROM order_history h WHERE h.order_id = o.id
                           AND h.machine = 'order' AND h.to_state = 'picking')))
