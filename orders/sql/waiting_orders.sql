-- Orders of a city that wait for a rider: since when they are ready, by when they have to leave,
-- and when ops were last called for them (now, while they are).
--   $1 city id
SELECT o.id, o.store_id, o.lat, o.lon, o.packed_at,
       o.promised_high_at - make_interval(secs => o.travel_s) AS leave_by,
       (SELECT max(coalesce(d.resolved_at, darkstore_now())) FROM dispatch_alerts d
        WHERE d.order_id = o.id AND d.kind = 'needs_rider') AS called_at
FROM orders o LEFT JOIN pick_tasks t ON t.order_id = o.id
WHERE o.city_id = $1::text AND o.delivery_status = 'unassigned'
  AND o.status IN ('confirmed', 'picking', 'packed')
  AND (o.pick_from IS NULL OR t.order_id IS NOT NULL)
ORDER BY o.id LIMIT 2000
