-- Nobody picks a scheduled order, and no rider is sent for it, before its time.
-- Returns order ids with the moment from which on it may be picked, and when it was queued.
SELECT o.id, o.pick_from, t.created_at AS queued_at, o.delivery_status
FROM orders o LEFT JOIN pick_tasks t ON t.order_id = o.id
WHERE o.pick_from IS NOT NULL
  AND (t.created_at < o.pick_from
       OR (t.order_id IS NULL AND o.delivery_status NOT IN ('unassigned', 'cancelled'))
       OR o.slot_start IS NULL OR o.pick_from > o.slot_start)
