-- Orders that were delivered on trips which ended lately, and whether that was in time.
--   $1 how many virtual seconds back, $2 how many at most
SELECT o.city_id, o.lat, o.lon, o.delivered_at <= o.promised_high_at AS kept
FROM trips t
JOIN trip_stops s ON s.trip_id = t.id AND s.kind = 'dropoff' AND s.status = 'completed'
JOIN orders o ON o.id = s.order_id
WHERE t.ended_at > darkstore_now() - make_interval(secs => $1::float8)
  AND o.delivered_at IS NOT NULL
ORDER BY t.ended_at DESC LIMIT $2::integer
