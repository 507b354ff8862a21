-- Orders of some stores that still have to be collected, whether a rider is to come or not; a
-- scheduled one from the time on when it is picked.
--   $1 city id, $2 store ids (text[])
SELECT o.id, o.store_id, o.status, o.delivery_status, o.version, o.lat, o.lon, o.placed_at,
       o.promised_high_at, o.slot_start, o.travel_s,
       o.packed_at, o.tip_minor, o.gateway,
       greatest(0, o.total_minor - o.wallet_minor - o.refunded_minor) AS owed_minor,
       t.status AS pick_status, t.claimed_at,
       b.lines, b.units, b.weight_g,
       ARRAY(SELECT d.rider_id FROM declines d WHERE d.order_id = o.id
             AND (d.until IS NULL OR d.until > darkstore_now())) AS declined_by
FROM orders o
LEFT JOIN pick_tasks t ON t.order_id = o.id
CROSS JOIN LATERAL (
    SELECT count(*) AS lines, coalesce(sum(l.quantity), 0) AS units,
           coalesce(sum(l.quantity * l.weight_g), 0) AS weight_g
    FROM order_lines l WHERE l.order_id = o.id) b
WHERE o.city_id = $1::text AND o.store_id = ANY ($2::text[])
  AND o.delivery_status IN ('unassigned', 'offered', 'assigned', 'at_store')
  AND o.status IN ('confirmed', 'picking', 'packed')
  AND (o.pick_from IS NULL OR t.order_id IS NOT NULL)
ORDER BY o.id LIMIT 4000
