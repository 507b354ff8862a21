-- Which orders some riders carry right now, and where to.
--   $1 rider ids (text[])
SELECT id, rider_id, city_id, lat, lon, delivery_status
FROM orders
WHERE rider_id = ANY ($1::text[]) AND delivery_status IN ('collected', 'at_door')
