-- Real seconds since an order's money was first asked for.
--   $1 order id
SELECT (extract(epoch FROM darkstore_now() - min(created_at))
        / (SELECT speed FROM clock))::float8 AS waited_s
FROM payment_operations WHERE order_id = $1::text AND kind = 'authorise'
