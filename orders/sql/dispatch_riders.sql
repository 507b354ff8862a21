-- Riders of a city who are on shift, with their work on it, the cash that they hold and the trip
-- that they are on: {id, status, store_id, stops [{kind, status, order_id, lat, lon,
-- cash_due_minor}] as ridden}.
--   $1 city id
SELECT r.id, r.vehicle, r.capacity_g, r.capacity_orders, r.version, h.started_at, h.ends_at,
       (SELECT max(t.ended_at) FROM trips t WHERE t.rider_id = r.id) AS idle_since,
       (SELECT coalesce(sum(extract(epoch FROM coalesce(t.ended_at, darkstore_now())
                                               - t.created_at)), 0)::float8
        FROM trips t WHERE t.rider_id = r.id AND t.created_at >= h.started_at) AS busy_s,
       extract(epoch FROM darkstore_now() - h.started_at)::float8 AS on_shift_s,
       (SELECT coalesce(sum(c.cash_minor), 0)::bigint FROM rider_cash c
        WHERE c.rider_id = r.id) AS cash_minor,
       (SELECT jsonb_build_object(
            'id', t.id, 'status', t.status, 'store_id', t.store_id,
            'stops', (SELECT jsonb_agg(jsonb_build_object(
                          'kind', s.kind, 'status', s.status, 'order_id', s.order_id,
                          'lat', s.lat, 'lon', s.lon, 'cash_due_minor', s.cash_due_minor)
                          ORDER BY s.position)
                      FROM trip_stops s WHERE s.trip_id = t.id))
        FROM trips t
        WHERE t.rider_id = r.id AND t.status IN ('offered', 'active')) AS trip
FROM shifts h JOIN riders r ON r.id = h.rider_id
WHERE r.city_id = $1::text AND h.stopped_at IS NULL AND h.ends_at > darkstore_now()
  AND (r.paused_at IS NULL OR r.paused_until <= darkstore_now())
ORDER BY r.id LIMIT 5000
