-- lock_stock: lock one stock row; whoever changes its lots holds this lock.
--   $1 text  store id
--   $2 text  sku id
SELECT on_hand, reserved FROM stock
WHERE store_id = $1::text AND sku_id = $2::text
FOR UPDATE
