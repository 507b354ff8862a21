-- Place the orders of several customers: see the routine checkout_batch.
--   $1 their parameters, a jsonb array
SELECT n, outcome, order_id, status, answer, short FROM checkout_batch($1::jsonb)
