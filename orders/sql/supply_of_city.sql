-- A city's last report of riders and orders.
--   $1 city id
SELECT at, report FROM city_supply WHERE city_id = $1::text
