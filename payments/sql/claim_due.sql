-- Take operations whose turn has come, so that no other worker asks the gateway meanwhile.
--   $1 how many at most
--   $2 real seconds until another worker may take them again (a worker may die while it asks)
UPDATE payment_operations o SET
    attempts = attempts + 1,
    next_attempt_at = darkstore_now() + make_interval(secs => $2::float8 * (SELECT speed FROM clock))
WHERE id IN (
    SELECT id FROM payment_operations
    WHERE status IN ('pending', 'unknown') AND next_attempt_at <= darkstore_now()
    ORDER BY next_attempt_at LIMIT $1::integer FOR UPDATE SKIP LOCKED)
RETURNING o.id, o.order_id, o.kind, o.gateway, o.method, o.amount_minor, o.currency, o.token,
          o.status, o.reference, o.attempts
