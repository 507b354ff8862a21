-- A product that may stand in for another one of the same category in a store.
--   $1 store id, $2 the product that is missing (sku id), $3 the substitute (sku id)
-- Returns one row, or none when the store does not sell it or it is of no common category.
SELECT p.sku_id, p.name, p.tax_rate_bp, p.temperature, p.barcode, r.price_minor, r.currency, s.bin,
       s.available
FROM prices r
JOIN products p USING (sku_id)
JOIN stock s ON s.store_id = r.store_id AND s.sku_id = r.sku_id
WHERE r.store_id = $1::text AND r.sku_id = $3::text AND r.active AND $3::text <> $2::text
  AND EXISTS (SELECT 1 FROM product_categories mine JOIN product_categories other USING (category)
              WHERE mine.sku_id = $2::text AND other.sku_id = $3::text)
