-- A store's stock movements, the latest first.
--   $1 store id, $2 sku id or null, $3 kinds (text[]) or null, $4 order id or null,
--   $5 reference or null, $6 lot id or null, $7 the last id of the page before or null, $8 rows
SELECT id, sku_id, kind, on_hand_delta, reserved_delta, bagged_delta, lot_id, order_id, reason,
       reference, actor, at
FROM stock_movements
WHERE store_id = $1::text AND ($2::text IS NULL OR sku_id = $2::text)
  AND ($3::text[] IS NULL OR kind = ANY ($3::text[]))
  AND ($4::text IS NULL OR order_id = $4::text)
  AND ($5::text IS NULL OR reference = $5::text)
  AND ($6::text IS NULL OR lot_id = $6::text)
  AND ($7::bigint IS NULL OR id < $7::bigint)
ORDER BY id DESC LIMIT $8::integer
