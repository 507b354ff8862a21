-- A trip is one pickup and one drop-off an order, all of one store, each at its own place in the
-- ride, and no door is reached before the bag is in the rider's hands; its pay is earned once.
-- Returns trip ids with what is wrong.
WITH stop AS (
    SELECT s.*, t.store_id, t.status AS trip_status, o.store_id AS order_store_id
    FROM trip_stops s JOIN trips t ON t.id = s.trip_id LEFT JOIN orders o ON o.id = s.order_id
), pair AS (
    SELECT trip_id, order_id,
           count(*) FILTER (WHERE kind = 'pickup') AS pickups,
           count(*) FILTER (WHERE kind = 'dropoff') AS dropoffs,
           max(position) FILTER (WHERE kind = 'pickup') AS fetched,
           min(position) FILTER (WHERE kind = 'dropoff') AS brought,
           bool_or(kind = 'pickup' AND status = 'completed') AS in_hand,
           bool_or(kind = 'dropoff' AND status IN ('arrived', 'completed', 'failed')) AS at_door
    FROM stop WHERE status <> 'cancelled' GROUP BY 1, 2
), paid AS (
    SELECT t.id, t.pay_minor, sum(e.amount_minor) AS earned
    FROM trips t
    JOIN stop s ON s.trip_id = t.id AND s.kind = 'dropoff' AND s.status = 'completed'
    JOIN earnings e ON e.order_id = s.order_id AND e.kind = 'delivery' AND e.rider_id = t.rider_id
    GROUP BY t.id, t.pay_minor
)
SELECT trip_id AS id, order_id, 'an order of another store' AS wrong
FROM stop WHERE order_store_id IS DISTINCT FROM store_id
UNION ALL
SELECT trip_id, order_id, 'not one pickup and one drop-off'
FROM pair WHERE pickups > 1 OR dropoffs > 1 OR (pickups = 0 AND dropoffs = 1)
    OR (pickups = 1 AND dropoffs = 0)
UNION ALL
SELECT trip_id, order_id, 'brought before it is fetched' FROM pair WHERE brought <= fetched
UNION ALL
SELECT trip_id, order_id, 'at a door with an order that the store still has'
FROM pair WHERE at_door AND NOT in_hand
UNION ALL
SELECT trip_id, min(order_id), 'two stops at one place of the ride'
FROM stop GROUP BY trip_id, position HAVING count(*) > 1
UNION ALL
SELECT trip_id, min(order_id), 'a stop that is open after the end'
FROM stop WHERE trip_status IN ('completed', 'cancelled') AND status IN ('pending', 'arrived')
GROUP BY trip_id
UNION ALL
SELECT id, NULL, 'more earned than the trip pays' FROM paid WHERE earned > pay_minor
