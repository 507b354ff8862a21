-- availability: what a store can still promise.
--   $1 text    store id
--   $2 text[]  sku ids, or null for all
-- Returns sku_id, version, available (units).
SELECT sku_id, version, greatest(available, 0) AS available
FROM stock
WHERE store_id = $1::text AND ($2::text[] IS NULL OR sku_id = ANY ($2::text[]))
