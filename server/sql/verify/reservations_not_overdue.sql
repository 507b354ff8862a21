-- A hold on stock ends with its time or with its order.
--   $1 real seconds that the sweeper may take
-- An unknown payment may still turn out to be paid, so its hold may outlast its time.
-- Returns order ids.
SELECT r.order_id AS id, r.status, r.expires_at, o.status AS order_status, o.payment_status
FROM reservations r
LEFT JOIN orders o ON o.id = r.order_id
CROSS JOIN clock c
WHERE o.id IS NULL
   OR (r.status = 'held' AND o.status <> 'placed')
   OR (r.status = 'held' AND o.payment_status <> 'unknown'
       AND r.expires_at < darkstore_now() - make_interval(secs => $1::float8 * c.speed))
   OR (r.status = 'firm' AND o.status NOT IN ('confirmed', 'picking', 'packed'))
   OR (r.status = 'consumed'
       AND o.status NOT IN ('picked_up', 'arriving', 'delivered', 'undeliverable', 'returned'))
   OR (r.status = 'released' AND o.status NOT IN ('cancelled', 'payment_failed'))
