-- What was picked is in its order's bags until a rider has them or it is back on the shelf.
-- Returns order/sku of what lies in a bag of an order that has left or ended.
SELECT m.order_id || '/' || m.sku_id AS id, r.status, sum(m.bagged_delta) AS in_bag
FROM stock_movements m
LEFT JOIN reservations r ON r.order_id = m.order_id
WHERE m.bagged_delta <> 0
GROUP BY m.order_id, m.sku_id, r.status
HAVING sum(m.bagged_delta) < 0 OR r.status IS NULL
    OR (sum(m.bagged_delta) > 0 AND r.status IN ('consumed', 'released'))
