-- Persist what we want from a gateway, before anybody asks it.  A second capture is refused
-- by the unique index and quietly ignored here: the first one stands.
--   $1 id, $2 order id, $3 kind, $4 amount in minor units
-- Gateway, method, currency and the gateway's reference come from the authorisation.
INSERT INTO payment_operations (
    id, order_id, kind, gateway, method, amount_minor, currency, reference, status,
    next_attempt_at, created_at)
SELECT $1::text, a.order_id, $3::text, a.gateway, a.method, $4::bigint, a.currency, a.reference,
       'pending', darkstore_now(), darkstore_now()
FROM payment_operations a
WHERE a.order_id = $2::text AND a.kind = 'authorise' AND a.status <> 'failed'
ON CONFLICT DO NOTHING
RETURNING id
