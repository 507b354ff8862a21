-- Proposals of a city that stand, with what their riders are doing.
--   $1 city id
SELECT p.id, p.rider_id, p.store_id, p.status, p.way_s, p.chance, p.gain_s, p.expires_at,
       EXISTS (SELECT FROM shifts h WHERE h.rider_id = p.rider_id AND h.stopped_at IS NULL
               AND h.ends_at > darkstore_now()) AS on_shift,
       EXISTS (SELECT FROM trips t WHERE t.rider_id = p.rider_id
               AND t.status IN ('offered', 'active')) AS on_trip
FROM rider_proposals p WHERE p.city_id = $1::text AND p.ended_at IS NULL
ORDER BY p.rider_id
