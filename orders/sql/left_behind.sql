-- Orders that are not packed, though their rider has had another order of the trip for so long.
--   $1 city id, $2 store ids (text[]), $3 virtual seconds that a rider waits
SELECT t.id AS trip_id, s.order_id
FROM trips t
JOIN trip_stops s ON s.trip_id = t.id AND s.kind = 'pickup' AND s.status IN ('pending', 'arrived')
JOIN orders o ON o.id = s.order_id AND o.status IN ('confirmed', 'picking')
WHERE t.city_id = $1::text AND t.store_id = ANY ($2::text[]) AND t.status = 'active'
  AND (SELECT min(d.completed_at) FROM trip_stops d
       WHERE d.trip_id = t.id AND d.kind = 'pickup' AND d.status = 'completed')
      <= darkstore_now() - make_interval(secs => $3::float8)
ORDER BY t.id, s.order_id LIMIT 200
