-- Queue an order for picking: its lines with the bins where they lie.
--   $1 pick task id, $2 order id, $3 due at (when it has to be packed)
--   $4 lines as [{line_id, n, sku_id, name, quantity}]
-- Nothing happens when the order has a pick task already.
WITH created AS (
    INSERT INTO pick_tasks (id, order_id, store_id, status, due_at, created_at)
    SELECT $1::text, r.order_id, r.store_id, 'queued', $3::timestamptz, darkstore_now()
    FROM reservations r WHERE r.order_id = $2::text
    ON CONFLICT (order_id) DO NOTHING
    RETURNING id, order_id, store_id
)
INSERT INTO pick_task_lines
    (pick_task_id, line_id, n, sku_id, name, quantity, bin, temperature, barcode)
SELECT c.id, l.line_id, l.n, l.sku_id, l.name, l.quantity, s.bin, p.temperature, p.barcode
FROM created c
JOIN jsonb_to_recordset($4::text::jsonb) AS l(
    line_id text, n smallint, sku_id text, name text, quantity integer) ON true
JOIN stock s ON s.store_id = c.store_id AND s.sku_id = l.sku_id
JOIN products p ON p.sku_id = l.sku_id
RETURNING pick_task_id
