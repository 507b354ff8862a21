-- Let all leases of a holder run out now.
--   $1 holder
UPDATE dispatch_leases SET expires_at = clock_timestamp() WHERE holder = $1::text
