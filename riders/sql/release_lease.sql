-- Let a lease run out now.
--   $1 city id, $2 holder
UPDATE dispatch_leases SET expires_at = clock_timestamp()
WHERE city_id = $1::text AND holder = $2::text
