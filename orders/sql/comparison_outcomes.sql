-- What became of the orders of a comparison, by store, window of time and parameter set: one row of
-- sums each.  Scheduled orders are left out, and those that the customer or the payment ended.
--   $1 city id   $2 from   $3 until   $4 seconds a window   $5 seconds after a switch left out
WITH placed AS (
    SELECT o.id, o.store_id, o.status, o.placed_at, o.promised_high_at, o.delivered_at,
           floor(extract(epoch FROM o.placed_at - $2::timestamptz) / $4::int)::int AS "window"
    FROM stores s JOIN orders o ON o.store_id = s.id
    WHERE s.city_id = $1::text AND o.placed_at >= $2::timestamptz AND o.placed_at < $3::timestamptz
      AND o.slot_start IS NULL AND o.status NOT IN ('placed', 'payment_failed', 'cancelled')
      AND mod(extract(epoch FROM o.placed_at - $2::timestamptz)::numeric, $4::int) >= $5::int
), ridden AS (
    -- The trip that took the order to its end, with the order's share of it.
    SELECT DISTINCT ON (a.order_id) a.order_id, t.parameter_set,
           CASE WHEN t.status = 'completed'
                THEN extract(epoch FROM t.ended_at - t.created_at) / m.orders END AS rider_s,
           1.0 / m.orders AS trips
    FROM placed p
    JOIN assignments a ON a.order_id = p.id
    JOIN trips t ON t.id = a.trip_id AND t.status <> 'cancelled'
    CROSS JOIN LATERAL (SELECT greatest(1, count(DISTINCT c.order_id)) AS orders FROM trip_stops c
                        WHERE c.trip_id = t.id AND c.status = 'completed') AS m
    ORDER BY a.order_id, a.assigned_at DESC
)
SELECT p.store_id, p."window", r.parameter_set,
       count(*)::int AS orders,
       count(*) FILTER (WHERE p.delivered_at IS NOT NULL)::int AS delivered,
       count(*) FILTER (WHERE p.delivered_at IS NOT NULL
                        OR p.promised_high_at < darkstore_now())::int AS known,
       count(*) FILTER (WHERE p.delivered_at <= p.promised_high_at)::int AS kept,
       coalesce(sum(extract(epoch FROM p.delivered_at - p.placed_at)), 0)::float8
           AS click_to_door_s,
       count(r.rider_s) FILTER (WHERE p.delivered_at IS NOT NULL)::int AS ridden,
       coalesce(sum(r.rider_s) FILTER (WHERE p.delivered_at IS NOT NULL), 0)::float8 AS rider_s,
       coalesce(sum(r.trips) FILTER (WHERE p.delivered_at IS NOT NULL
                                     AND r.rider_s IS NOT NULL), 0)::float8 AS trips
FROM placed p LEFT JOIN ridden r ON r.order_id = p.id
GROUP BY 1, 2, 3
