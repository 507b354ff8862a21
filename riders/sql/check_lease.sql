-- Whether an epoch still is the city's; the row is locked, so that a takeover waits.
--   $1 city id, $2 epoch
SELECT epoch FROM dispatch_leases
WHERE city_id = $1::text AND epoch = $2::bigint AND expires_at > clock_timestamp() FOR SHARE
