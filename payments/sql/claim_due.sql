-- Take operations whose turn has come, so that no other worker asks the gateway meanwhile.
--   $1 {gateway: how many of its operations at most}; a gateway that is not named is left alone
--   $2 real seconds until another worker may take them again (a worker may die while it asks)
-- A refund waits while its order's payment is disputed: the money is with the gateway.
UPDATE payment_operations o SET
    attempts = attempts + 1,
    next_attempt_at = darkstore_now() + make_interval(secs => $2::float8 * (SELECT speed FROM clock))
WHERE id IN (
    SELECT due.id
    FROM jsonb_each_text($1::text::jsonb) AS g(name, free)
    CROSS JOIN LATERAL (
        SELECT p.id FROM payment_operations p
        WHERE p.gateway = g.name AND p.status IN ('pending', 'unknown')
          AND p.next_attempt_at <= darkstore_now()
          AND NOT (p.kind = 'refund' AND p.status = 'pending' AND EXISTS (
              SELECT 1 FROM disputes d WHERE d.order_id = p.order_id AND d.status = 'opened'))
        ORDER BY p.next_attempt_at LIMIT g.free::integer FOR UPDATE SKIP LOCKED
    ) AS due)
RETURNING o.id, o.order_id, o.kind, o.gateway, o.method, o.amount_minor, o.currency, o.token,
          o.route, o.attempt, o.status, o.reference, o.code, o.attempts, o.answers
