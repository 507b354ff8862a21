-- Open the lines of a count: products by id and by bin, but none that another count holds.
--   $1 count id, $2 store id, $3 sku ids (text[]), $4 bins (text[])
-- Returns sku_id of every line.
INSERT INTO stock_count_lines (count_id, sku_id, store_id, bin)
SELECT $1::text, sku_id, store_id, bin FROM stock
WHERE store_id = $2::text AND (sku_id = ANY ($3::text[]) OR bin = ANY ($4::text[]))
ORDER BY sku_id
ON CONFLICT (store_id, sku_id) WHERE status IN ('open', 'pending') DO NOTHING
RETURNING sku_id
