-- Ops are called only for orders that need them: none is open about an order that has got on.
-- Returns ids of alerts with their order's state.
SELECT a.id, a.kind, a.order_id, o.delivery_status
FROM dispatch_alerts a JOIN orders o ON o.id = a.order_id
WHERE a.resolved_at IS NULL
  AND (o.city_id <> a.city_id
       OR (a.kind = 'needs_rider' AND o.delivery_status NOT IN ('unassigned', 'offered'))
       OR (a.kind IN ('rider_silent', 'handed_back')
           AND o.delivery_status NOT IN ('collected', 'at_door')))
