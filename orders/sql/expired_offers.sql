-- Trips whose offer nobody answered in time.
--   $1 city id, $2 store ids (text[])
SELECT t.id FROM offers f JOIN trips t ON t.id = f.trip_id
WHERE f.status = 'open' AND f.expires_at <= darkstore_now()
  AND t.city_id = $1::text AND t.store_id = ANY ($2::text[])
ORDER BY f.expires_at LIMIT 200
