-- Nobody is sent with more orders or more weight than the vehicle takes.
-- Returns trip ids.
SELECT t.id, t.rider_id, count(DISTINCT s.order_id) AS orders, r.capacity_orders,
       sum(l.quantity::bigint * l.weight_g) AS weight_g, r.capacity_g
FROM trips t
JOIN riders r ON r.id = t.rider_id
JOIN trip_stops s ON s.trip_id = t.id AND s.kind = 'dropoff' AND s.status <> 'cancelled'
JOIN order_lines l ON l.order_id = s.order_id
GROUP BY t.id, t.rider_id, r.capacity_orders, r.capacity_g
HAVING count(DISTINCT s.order_id) > r.capacity_orders
    OR sum(l.quantity::bigint * l.weight_g) > r.capacity_g
