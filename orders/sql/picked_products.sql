-- What is in an order's bags: products of its lines and of their substitutes.
--   $1 order id
WITH picked AS (
    SELECT l.sku_id, l.name, l.temperature, l.picked FROM pick_tasks t
    JOIN pick_task_lines l ON l.pick_task_id = t.id WHERE t.order_id = $1::text
    UNION ALL
    SELECT s.sku_id, s.name, s.temperature, s.picked FROM pick_tasks t
    JOIN pick_task_substitutes s ON s.pick_task_id = t.id WHERE t.order_id = $1::text
)
SELECT sku_id, min(name) AS name, min(temperature) AS temperature, sum(picked)::integer AS quantity
FROM picked WHERE picked > 0 GROUP BY sku_id ORDER BY sku_id
