-- What a store asks for some products today, and how many of each it can sell.
--   $1 store id
--   $2 product ids (text[])
SELECT p.sku_id, p.name, p.tax_rate_bp, p.weight_g, r.price_minor, r.currency,
       greatest(s.available, 0) AS available
FROM prices r
JOIN products p USING (sku_id)
JOIN stock s ON s.store_id = r.store_id AND s.sku_id = r.sku_id
WHERE r.store_id = $1::text AND r.sku_id = ANY ($2::text[]) AND r.active
