-- Riders of a city who are on shift and not on a pause, with where and when their trip ends, when
-- they had their last one, and what they were proposed since $2.
--   $1 city id, $2 proposals after
SELECT r.id, h.started_at, h.ends_at, t.id AS trip_id, s.lat, s.lon, s.planned_at,
       (SELECT max(e.ended_at) FROM trips e
        WHERE e.rider_id = r.id AND e.created_at >= h.started_at) AS idle_since,
       (SELECT count(*) FROM rider_proposals p
        WHERE p.rider_id = r.id AND p.made_at > $2::timestamptz) AS moves,
       (SELECT max(p.ended_at) FROM rider_proposals p
        WHERE p.rider_id = r.id AND p.made_at > $2::timestamptz
          AND p.status = 'dismissed') AS dismissed_at
FROM shifts h JOIN riders r ON r.id = h.rider_id
LEFT JOIN trips t ON t.rider_id = r.id AND t.status IN ('offered', 'active')
LEFT JOIN LATERAL (SELECT s.lat, s.lon, s.planned_at FROM trip_stops s
                   WHERE s.trip_id = t.id ORDER BY s.position DESC LIMIT 1) s ON true
WHERE r.city_id = $1::text AND h.stopped_at IS NULL AND h.ends_at > darkstore_now()
  AND (r.paused_at IS NULL OR r.paused_until <= darkstore_now())
ORDER BY r.id LIMIT 5000
