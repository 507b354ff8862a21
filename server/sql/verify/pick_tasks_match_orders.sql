-- The store works on what the orders say: a task from confirmation on, in the order's stage, with
-- the order's lines and the same units picked and missing.
-- A confirmed order has no task until the relay has handed on its confirmation; a scheduled one has
-- none before its time, and then within half a minute.
-- Returns order ids with what is wrong.
WITH counted AS (
    SELECT t.order_id, t.status,
           (SELECT count(*) FROM order_lines l
            FULL JOIN pick_task_lines p ON p.line_id = l.line_id AND p.pick_task_id = t.id
            WHERE l.order_id = t.order_id
              AND (p.line_id IS NULL OR p.sku_id <> l.sku_id OR p.quantity <> l.quantity
                   OR p.picked <> l.picked_quantity OR p.missing <> l.missing_quantity)) AS differ
    FROM pick_tasks t
), judged AS (
    SELECT coalesce(o.id, t.order_id) AS id, o.status, t.status AS task, CASE
        WHEN o.id IS NULL THEN 'a task of no order'
        WHEN t.differ > 0 THEN 'lines differ'
        WHEN t.status IS NULL AND o.status = 'confirmed' THEN CASE WHEN EXISTS (
            SELECT 1 FROM outbox e WHERE e.stream = 'order:' || o.id AND e.type = 'order.status'
            AND e.data->>'machine' = 'order' AND e.data->>'to' = 'confirmed'
            AND e.published_at IS NOT NULL)
            AND (o.pick_from IS NULL OR o.pick_from < darkstore_now()
                 - (SELECT make_interval(secs => 30 * speed) FROM clock)) THEN 'never queued' END
        WHEN t.status IS NULL AND o.status IN ('placed', 'payment_failed', 'cancelled') THEN NULL
        WHEN t.status IS NULL THEN 'no task'
        WHEN t.status <> ALL (CASE o.status
            WHEN 'confirmed' THEN ARRAY['queued']
            WHEN 'picking' THEN ARRAY['queued', 'claimed']
            WHEN 'packed' THEN ARRAY['packed']
            WHEN 'cancelled' THEN ARRAY['cancelled']
            WHEN 'placed' THEN ARRAY[]::text[]
            WHEN 'payment_failed' THEN ARRAY[]::text[]
            ELSE ARRAY['handed_over'] END) THEN 'in another stage'
        WHEN t.status IN ('packed', 'handed_over') AND EXISTS (
            SELECT 1 FROM order_lines l WHERE l.order_id = o.id
            AND l.picked_quantity + l.missing_quantity <> l.quantity) THEN 'packed unfinished'
    END AS wrong
    FROM orders o FULL JOIN counted t ON t.order_id = o.id
)
SELECT id, status, task, wrong FROM judged WHERE wrong IS NOT NULL
