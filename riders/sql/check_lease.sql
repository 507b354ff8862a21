-- Whether an epoch still is the partition's; the row is locked, so that a takeover waits.
-- A process that is stopped in the middle of the transaction is cut off soon, for its row locks
-- hold up whoever takes over.
--   $1 partition id, $2 epoch, $3 milliseconds that the transaction may be idle
SELECT epoch, set_config('idle_in_transaction_session_timeout', $3::text, true)
FROM dispatch_leases
WHERE partition_id = $1::text AND epoch = $2::bigint AND expires_at > clock_timestamp() FOR SHARE
