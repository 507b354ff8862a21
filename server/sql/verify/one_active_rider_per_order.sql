-- An order has one rider while somebody is to bring it and none otherwise; a rider has one trip.
-- Returns order ids, and ids of riders with two open trips.
WITH active AS (
    SELECT a.order_id, count(*) AS riders, min(a.rider_id) AS rider_id,
           bool_and(t.status IN ('offered', 'active')) AS trip_open
    FROM assignments a JOIN trips t ON t.id = a.trip_id
    WHERE a.active GROUP BY 1
), busy AS (
    SELECT id, delivery_status, rider_id,
           delivery_status IN ('offered', 'assigned', 'at_store', 'collected', 'at_door') AS ridden,
           delivery_status IN ('assigned', 'at_store', 'collected', 'at_door') AS accepted,
           delivery_status IN ('unassigned', 'cancelled') AS free
    FROM orders
)
SELECT coalesce(b.id, a.order_id) AS id, b.delivery_status, coalesce(a.riders, 0) AS riders
FROM busy b FULL JOIN active a ON a.order_id = b.id
WHERE b.id IS NULL
   OR coalesce(a.riders, 0) > 1
   OR (b.ridden AND a.riders IS NULL)
   OR (b.free AND a.riders IS NOT NULL)
   OR (a.riders IS NOT NULL AND NOT a.trip_open)
   OR (b.accepted AND b.rider_id IS DISTINCT FROM a.rider_id)
UNION ALL
SELECT rider_id, 'open trips', count(*)
FROM trips WHERE status IN ('offered', 'active') GROUP BY 1 HAVING count(*) > 1
