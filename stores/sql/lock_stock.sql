-- lock_stock: lock the stock rows of some products, in sku order like everybody.
--   $1 text    store id
--   $2 text[]  sku ids
-- Returns sku_id, on_hand, reserved, blocked of those that the store carries.
SELECT sku_id, on_hand, reserved, blocked FROM stock
WHERE store_id = $1::text AND sku_id = ANY ($2::text[])
ORDER BY sku_id COLLATE "C" FOR UPDATE
