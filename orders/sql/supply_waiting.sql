-- How many orders of each store have no rider; a scheduled one from the time on when it is picked.
--   $1 city id
SELECT o.store_id, count(*) AS waiting
FROM orders o
WHERE o.city_id = $1::text AND o.delivery_status = 'unassigned'
  AND o.status IN ('confirmed', 'picking', 'packed')
  AND (o.pick_from IS NULL OR o.pick_from <= darkstore_now())
GROUP BY o.store_id
