-- One operation, locked.
--   $1 operation id
SELECT id, order_id, kind, gateway, method, amount_minor, currency, token, route, attempt, status,
       reference, code, attempts, answers
FROM payment_operations WHERE id = $1::text FOR UPDATE
