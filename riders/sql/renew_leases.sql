-- Keep every lease of a holder that still lives.  Returns those that the holder has now.
--   $1 holder, $2 life in real seconds
UPDATE dispatch_leases
SET expires_at = clock_timestamp() + make_interval(secs => $2::float8)
WHERE holder = $1::text AND expires_at > clock_timestamp()
RETURNING partition_id, epoch
