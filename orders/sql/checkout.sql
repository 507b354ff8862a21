-- Place an order: see the routine checkout.
--   $1 its parameters as jsonb
SELECT outcome, order_id, status, answer, short FROM checkout($1::jsonb)
