-- The lines of a count in the order of a walk.
--   $1 count id
SELECT l.sku_id, p.name, p.unit, p.barcode, l.bin, l.status, l.counted, l.counted_by, l.counted_at,
       l.reason, l.expected, l.counted - l.expected AS variance, l.applied, l.short,
       l.decided_by, l.decided_at
FROM stock_count_lines l
JOIN products p USING (sku_id)
LEFT JOIN bins b ON b.store_id = l.store_id AND b.code = l.bin
WHERE l.count_id = $1::text
ORDER BY b.walk_order, l.sku_id
