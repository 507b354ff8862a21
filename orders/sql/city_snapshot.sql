-- Orders of a city that are on their way, for its ops.
--   $1 city id
SELECT id AS order_id, status, delivery_status, payment_status, version, store_id, rider_id,
       promised_low_at, promised_high_at
FROM orders
WHERE city_id = $1::text AND delivery_status NOT IN ('done', 'failed', 'cancelled')
ORDER BY id LIMIT 2000
