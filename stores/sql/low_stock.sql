-- Products of a store that have run low, as they are now.
--   $1 store id, $2 the last sku id of the page before, or null, $3 rows wanted
SELECT l.sku_id, p.name, p.unit, s.bin, s.on_hand, s.reserved, s.blocked,
       greatest(s.available, 0) AS available, coalesce(s.low_stock_at, t.low_stock_at) AS threshold,
       l.since
FROM low_stock l
JOIN stock s USING (store_id, sku_id)
JOIN stores t ON t.id = l.store_id
JOIN products p ON p.sku_id = l.sku_id
WHERE l.store_id = $1::text AND ($2::text IS NULL OR l.sku_id > $2::text)
ORDER BY l.sku_id LIMIT $3::integer
