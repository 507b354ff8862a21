-- Everything that an order's view shows, a row for each order, and for checkouts that have just placed
-- theirs the operation that asks for the money.
--   $1 order ids, $2 the operation of each, or null (text[])
SELECT o.*, r.name AS rider_name, r.vehicle AS rider_vehicle, s.lat AS store_lat, s.lon AS store_lon,
       s.name AS store_name,
       (SELECT jsonb_agg(jsonb_build_object(
            'line_id', l.line_id, 'sku_id', l.sku_id, 'name', l.name, 'quantity', l.quantity,
            'unit_price_minor', l.unit_price_minor, 'line_total_minor', l.line_total_minor,
            'tax_minor', l.tax_minor, 'picked_quantity', l.picked_quantity,
            'missing_quantity', l.missing_quantity, 'refunded_minor', l.refunded_minor,
            'claimed_quantity', l.claimed_quantity
        ) ORDER BY l.n) FROM order_lines l WHERE l.order_id = o.id) AS lines,
       (SELECT coalesce(jsonb_agg(to_jsonb(u) ORDER BY u.id), '[]') FROM order_substitutions u
        WHERE u.order_id = o.id) AS substitutions,
       (SELECT w.stars FROM ratings w WHERE w.order_id = o.id) AS stars,
       (SELECT jsonb_build_object('by', c.party, 'reason', c.reason, 'fee_minor', c.fee_minor,
                                  'refund_minor', c.refund_minor)
        FROM order_cancellations c WHERE c.order_id = o.id) AS cancellation,
       (SELECT jsonb_build_object(
            'id', p.id, 'order_id', p.order_id, 'kind', p.kind, 'gateway', p.gateway,
            'method', p.method, 'amount_minor', p.amount_minor, 'currency', p.currency,
            'token', p.token, 'route', p.route, 'attempt', p.attempt, 'status', p.status,
            'reference', p.reference, 'code', p.code, 'attempts', p.attempts, 'answers', p.answers)
        FROM payment_operations p WHERE p.id = a.operation_id AND p.order_id = o.id) AS operation
-- Read by a subquery, arrays are ten elements to the planner, however many there are: then it keeps
-- one plan, where it made a new one for every call (0.5 ms).
FROM unnest((SELECT $1::text[]), (SELECT $2::text[])) AS a(order_id, operation_id)
JOIN orders o ON o.id = a.order_id
JOIN stores s ON s.id = o.store_id
LEFT JOIN riders r ON r.id = o.rider_id
