-- Riders of a city who are on shift and have no trip, with the cash that they hold.
--   $1 city id
SELECT r.id, r.vehicle, r.capacity_g, r.capacity_orders, r.version, h.started_at, h.ends_at,
       (SELECT max(t.ended_at) FROM trips t WHERE t.rider_id = r.id) AS idle_since,
       (SELECT coalesce(sum(c.cash_minor), 0)::bigint FROM rider_cash c
        WHERE c.rider_id = r.id) AS cash_minor
FROM shifts h JOIN riders r ON r.id = h.rider_id
WHERE r.city_id = $1::text AND h.stopped_at IS NULL AND h.ends_at > darkstore_now()
  AND NOT EXISTS (SELECT 1 FROM trips t
                  WHERE t.rider_id = r.id AND t.status IN ('offered', 'active'))
ORDER BY r.id LIMIT 5000
