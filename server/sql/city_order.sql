-- What a city's ops see of an order besides its states.
--   $1 order id
SELECT city_id, store_id, rider_id, promised_low_at, promised_high_at
FROM orders WHERE id = $1::text
