-- Lock the stock rows of an order's products in sku order.
--   $1 order id
SELECT s.sku_id
FROM reservations r
JOIN reservation_lines l USING (order_id)
JOIN stock s ON s.store_id = r.store_id AND s.sku_id = l.sku_id
WHERE r.order_id = $1::text
ORDER BY s.sku_id COLLATE "C" FOR UPDATE OF s
