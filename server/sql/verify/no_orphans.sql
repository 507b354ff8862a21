-- What an order is made of hangs together: rows that are written with no foreign key name others
-- that are there.
-- Returns the id of the row that names nothing, and what is missing.
SELECT q.id, 'the customer of a quote' AS missing
FROM quotes q LEFT JOIN users u ON u.id = q.user_id WHERE u.id IS NULL
UNION ALL
SELECT q.id, 'the store of a quote'
FROM quotes q LEFT JOIN stores s ON s.id = q.store_id WHERE s.id IS NULL
UNION ALL
SELECT o.id, 'the customer of an order'
FROM orders o LEFT JOIN users u ON u.id = o.user_id WHERE u.id IS NULL
UNION ALL
SELECT o.id, 'the store of an order'
FROM orders o LEFT JOIN stores s ON s.id = o.store_id WHERE s.id IS NULL
UNION ALL
SELECT l.order_id || '/' || l.line_id, 'the order of a line'
FROM order_lines l LEFT JOIN orders o ON o.id = l.order_id WHERE o.id IS NULL
UNION ALL
SELECT h.order_id || '/' || h.seq, 'the order of a history entry'
FROM order_history h LEFT JOIN orders o ON o.id = h.order_id WHERE o.id IS NULL
UNION ALL
SELECT l.order_id || '/' || l.sku_id, 'the reservation of a line'
FROM reservation_lines l LEFT JOIN reservations r USING (order_id) WHERE r.order_id IS NULL
UNION ALL
SELECT o.id, 'the lines of an order'
FROM orders o WHERE NOT EXISTS (SELECT 1 FROM order_lines l WHERE l.order_id = o.id)
UNION ALL
SELECT l.pick_task_id || '/' || l.line_id, 'the pick task of a line'
FROM pick_task_lines l LEFT JOIN pick_tasks t ON t.id = l.pick_task_id WHERE t.id IS NULL
