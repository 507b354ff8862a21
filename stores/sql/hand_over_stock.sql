-- What is in an order's bags leaves the store with its rider.
--   $1 order id, $2 actor
INSERT INTO stock_movements
    (store_id, sku_id, kind, on_hand_delta, reserved_delta, bagged_delta, order_id, actor, at)
SELECT store_id, sku_id, 'handover', 0, 0, -sum(bagged_delta), $1::text, $2::text, darkstore_now()
FROM stock_movements
WHERE order_id = $1::text AND bagged_delta <> 0
GROUP BY store_id, sku_id HAVING sum(bagged_delta) > 0
