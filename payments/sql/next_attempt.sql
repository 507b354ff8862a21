-- The same authorisation once more, at the next gateway of its route.
--   $1 id of the new operation, $2 id of the one that failed
--   $3 the route, of which the first gateway is asked: [{gateway, token}]
--   $4 real seconds until a worker may take it
--   $5 1 when the caller asks at once, else 0
INSERT INTO payment_operations (
    id, order_id, kind, gateway, method, amount_minor, currency, token, route, attempt, status,
    attempts, next_attempt_at, created_at)
SELECT $1::text, f.order_id, f.kind, $3::text::jsonb->0->>'gateway', f.method, f.amount_minor,
       f.currency, $3::text::jsonb->0->>'token', $3::text::jsonb, f.attempt + 1, 'pending',
       $5::integer,
       darkstore_now() + make_interval(secs => $4::float8 * (SELECT speed FROM clock)),
       darkstore_now()
FROM payment_operations f WHERE f.id = $2::text
