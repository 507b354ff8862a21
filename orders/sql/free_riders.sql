-- Riders of a city who could take another order now: on shift, without a trip and a pause.
--   $1 city id, $2 an order that they must not have declined
SELECT r.id
FROM shifts h JOIN riders r ON r.id = h.rider_id
WHERE r.city_id = $1::text AND h.stopped_at IS NULL AND h.ends_at > darkstore_now()
  AND (r.paused_at IS NULL OR r.paused_until <= darkstore_now())
  AND NOT EXISTS (SELECT 1 FROM trips t
                  WHERE t.rider_id = r.id AND t.status IN ('offered', 'active'))
  AND NOT EXISTS (SELECT 1 FROM declines d WHERE d.order_id = $2::text AND d.rider_id = r.id
                  AND (d.until IS NULL OR d.until > darkstore_now()))
ORDER BY r.id LIMIT 5000
