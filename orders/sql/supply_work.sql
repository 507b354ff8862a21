-- What trips of a city's riders took lately: seconds from the offer to the end, and orders.
--   $1 city id, $2 created after
SELECT extract(epoch FROM t.ended_at - t.created_at)::float8 AS busy_s, t.ended_at,
       (SELECT count(*) FROM trip_stops s WHERE s.trip_id = t.id AND s.kind = 'dropoff') AS orders
FROM riders r JOIN trips t ON t.rider_id = r.id
WHERE r.city_id = $1::text AND t.created_at > $2::timestamptz AND t.status = 'completed'
ORDER BY t.ended_at DESC LIMIT 1000
