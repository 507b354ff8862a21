-- Trips of a city that are being ridden: who rides them, when the rider last did something, what
-- is carried, and where and when the rider was to be at the store.
--   $1 city id
SELECT t.id, t.rider_id, t.store_id, t.created_at,
       greatest(r.acted_at, f.answered_at, t.created_at) AS acted_at,
       EXISTS (SELECT 1 FROM assignments a JOIN orders o ON o.id = a.order_id
               WHERE a.trip_id = t.id AND a.active
                 AND o.delivery_status IN ('collected', 'at_door')) AS carries,
       EXISTS (SELECT 1 FROM trip_stops p
               WHERE p.trip_id = t.id AND p.kind = 'pickup' AND p.status = 'arrived') AS at_store,
       EXISTS (SELECT 1 FROM dispatch_alerts d
               WHERE d.trip_id = t.id AND d.kind = 'rider_silent'
                 AND d.resolved_at IS NULL) AS called,
       EXISTS (SELECT 1 FROM dispatch_alerts d
               WHERE d.trip_id = t.id AND d.kind = 'rider_silent' AND d.resolved_by <> 'system'
                 AND d.resolved_at > darkstore_now() - interval '15 minutes') AS excused,
       s.planned_at AS store_at, s.lat AS store_lat, s.lon AS store_lon,
       (SELECT min(a.order_id) FROM assignments a WHERE a.trip_id = t.id AND a.active) AS order_id,
       (SELECT count(*) FROM order_history h
        WHERE h.reason = 'rider_late' AND h.order_id IN (
            SELECT a.order_id FROM assignments a WHERE a.trip_id = t.id AND a.active)
       ) AS late_before
FROM trips t
JOIN riders r ON r.id = t.rider_id
LEFT JOIN offers f ON f.trip_id = t.id
LEFT JOIN LATERAL (
    SELECT planned_at, lat, lon FROM trip_stops p
    WHERE p.trip_id = t.id AND p.kind = 'pickup' AND p.status = 'pending'
      AND NOT EXISTS (SELECT 1 FROM trip_stops q WHERE q.trip_id = t.id AND q.kind = 'pickup'
                      AND q.status IN ('arrived', 'completed'))
    ORDER BY p.position LIMIT 1) AS s ON true
WHERE t.city_id = $1::text AND t.status = 'active'
ORDER BY t.id LIMIT 2000
