-- The proposal of a rider that stands, with its store's place.
--   $1 rider id
SELECT p.id, p.store_id, s.name AS store_name, s.lat, s.lon, p.way_s, p.chance, p.status,
       p.made_at, p.expires_at
FROM rider_proposals p JOIN stores s ON s.id = p.store_id
WHERE p.rider_id = $1::text AND p.ended_at IS NULL
