-- list_stock: a page of a store's stock for its staff, in the order of sku_id.
--   $1 text    store id
--   $2 text[]  words in lower case, all of which brand, name, bin and barcode must contain
--   $3 text    the last sku_id of the page before, or null
--   $4 int     rows wanted
SELECT s.sku_id, p.name, p.brand, p.unit, p.barcode, p.temperature, s.bin, s.on_hand, s.reserved,
       greatest(s.available, 0) AS available,
       (SELECT min(l.expires_on) FROM lots l
        WHERE l.store_id = s.store_id AND l.sku_id = s.sku_id AND l.on_hand > 0) AS expires_on,
       s.blocked
FROM stock s
JOIN products p USING (sku_id)
WHERE s.store_id = $1::text
  AND ($3::text IS NULL OR s.sku_id > $3::text)
  AND NOT EXISTS (
        SELECT FROM unnest($2::text[]) AS w(word)
        WHERE strpos(lower(concat_ws(' ', p.brand, p.name, s.bin, p.barcode)), w.word) = 0)
ORDER BY s.sku_id
LIMIT $4::integer
