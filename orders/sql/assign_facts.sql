-- What decides whether a rider can take an order.
--   $1 order id, $2 rider id
SELECT r.capacity_g, r.capacity_orders,
       r.paused_at IS NOT NULL
           AND (r.paused_until IS NULL OR r.paused_until > darkstore_now()) AS paused,
       (SELECT h.ends_at FROM shifts h
        WHERE h.rider_id = r.id AND h.stopped_at IS NULL) AS shift_ends_at,
       EXISTS (SELECT 1 FROM trips t
               WHERE t.rider_id = r.id AND t.status IN ('offered', 'active')) AS on_trip,
       EXISTS (SELECT 1 FROM declines d WHERE d.order_id = $1::text AND d.rider_id = r.id
               AND (d.until IS NULL OR d.until > darkstore_now())) AS declined,
       EXISTS (SELECT 1 FROM pick_tasks p WHERE p.order_id = $1::text) AS has_pick_task,
       (SELECT coalesce(sum(l.quantity::bigint * l.weight_g), 0)::bigint FROM order_lines l
        WHERE l.order_id = $1::text) AS weight_g,
       (SELECT coalesce(sum(c.cash_minor), 0)::bigint FROM rider_cash c
        WHERE c.rider_id = r.id) AS cash_minor
FROM riders r WHERE r.id = $2::text
