-- Riders of a city with their shift and trip, for its ops.
--   $1 city id
SELECT r.id, r.name, r.vehicle, h.started_at, h.ends_at, t.id AS trip_id, t.status AS trip_status
FROM riders r
LEFT JOIN shifts h ON h.rider_id = r.id AND h.stopped_at IS NULL
LEFT JOIN trips t ON t.rider_id = r.id AND t.status IN ('offered', 'active')
WHERE r.city_id = $1::text ORDER BY r.id LIMIT 1000
