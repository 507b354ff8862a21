-- Orders that were placed lately, whatever became of them: the demand that is to be foreseen.
--   $1 city id, $2 store ids (text[]), $3 how many virtual seconds back
SELECT o.id, o.store_id, o.lat, o.lon, o.placed_at, o.packed_at,
       (SELECT count(*) FROM order_lines l WHERE l.order_id = o.id) AS lines,
       (SELECT coalesce(sum(l.quantity), 0) FROM order_lines l WHERE l.order_id = o.id) AS units
FROM orders o
WHERE o.city_id = $1::text AND o.store_id = ANY ($2::text[]) AND o.slot_start IS NULL
  AND o.placed_at > darkstore_now() - make_interval(secs => $3::float8)
  AND o.status NOT IN ('placed', 'payment_failed')
ORDER BY o.placed_at DESC LIMIT 2000
