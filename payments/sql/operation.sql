-- One operation, locked.
--   $1 operation id
SELECT id, order_id, kind, gateway, method, amount_minor, currency, token, status, reference,
       attempts
FROM payment_operations WHERE id = $1::text FOR UPDATE
