-- A scheduled order for which picking should begin now.
-- Locked, so that several processes that look share the work; a busy one has its turn again soon.
SELECT o.id FROM orders o
WHERE o.status = 'confirmed' AND o.pick_from <= darkstore_now()
  AND o.delivery_status NOT IN ('done', 'failed', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM pick_tasks t WHERE t.order_id = o.id)
ORDER BY o.pick_from LIMIT 1 FOR UPDATE SKIP LOCKED
