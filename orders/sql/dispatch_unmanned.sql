-- How many orders of some stores have no rider, and how many are to be collected at all, where
-- nobody in the city is on shift; no row where somebody is.  Not all of them are counted: as many
-- as sql/dispatch_orders.sql reads.
--   $1 city id, $2 store ids (text[])
SELECT count(*) FILTER (WHERE open.delivery_status = 'unassigned') AS unassigned, count(*) AS all
FROM (
    SELECT o.delivery_status FROM orders o
    WHERE o.city_id = $1::text AND o.store_id = ANY ($2::text[])
      AND o.delivery_status IN ('unassigned', 'offered', 'assigned', 'at_store')
      AND o.status IN ('confirmed', 'picking', 'packed')
      AND (o.pick_from IS NULL OR EXISTS (SELECT FROM pick_tasks t WHERE t.order_id = o.id))
    LIMIT 4000
) open
HAVING NOT EXISTS (
    SELECT FROM shifts h JOIN riders r ON r.id = h.rider_id
    WHERE r.city_id = $1::text AND h.stopped_at IS NULL AND h.ends_at > darkstore_now()
      AND (r.paused_at IS NULL OR r.paused_until <= darkstore_now()))
