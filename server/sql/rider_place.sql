-- Where a rider rides, and the currency there.
--   $1 rider id, $2 store id or null
SELECT r.city_id, c.currency,
       (SELECT s.city_id FROM stores s WHERE s.id = $2::text) AS store_city_id
FROM riders r JOIN cities c ON c.id = r.city_id
WHERE r.id = $1::text
