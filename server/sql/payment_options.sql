-- The gateways of a store's city, by method, where operators gave the city an order of its own.
--   $1 store id
SELECT s.city_id, c.method, c.gateways
FROM stores s LEFT JOIN city_gateways c ON c.city_id = s.city_id WHERE s.id = $1::text
