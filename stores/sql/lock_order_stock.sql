-- Lock the stock rows of an order's products in sku order.
--   $1 order id
--   $2 further sku ids that the same transaction will touch (text[])
SELECT s.sku_id
FROM reservations r
JOIN stock s ON s.store_id = r.store_id
WHERE r.order_id = $1::text
  AND (s.sku_id = ANY ($2::text[])
       OR s.sku_id IN (SELECT l.sku_id FROM reservation_lines l WHERE l.order_id = $1::text))
ORDER BY s.sku_id COLLATE "C" FOR UPDATE OF s
