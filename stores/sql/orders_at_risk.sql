-- Orders that wait for a product of which the shelf holds too little: the latest come first, since
-- the earlier ones are served from what is there.
--   $1 store id, $2 sku id
-- Returns order_id, units (still to be picked for it).
SELECT l.order_id, l.open_quantity AS units
FROM reservation_lines l
WHERE l.sku_id = $2::text AND l.open_quantity > 0
  AND l.order_id IN (SELECT m.order_id FROM stock_movements m
                     WHERE m.store_id = $1::text AND m.sku_id = $2::text
                       AND m.kind = 'reservation')
ORDER BY l.order_id DESC
