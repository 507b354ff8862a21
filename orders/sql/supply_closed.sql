-- Stores of a city that take no orders now: nobody is sent there to wait.
--   $1 city id
SELECT id FROM stores WHERE city_id = $1::text AND NOT open
