-- find_products: some products as one store sells them; those that it does not sell are left out.
--   $1 text    store id
--   $2 text[]  sku ids
SELECT p.sku_id, p.name, p.brand, p.unit, p.weight_g, p.temperature, p.tax_rate_bp, p.image_url,
       r.price_minor, r.list_price_minor, r.currency,
       ARRAY(SELECT c.title FROM product_categories pc JOIN categories c ON c.slug = pc.category
             WHERE pc.sku_id = p.sku_id ORDER BY c.title COLLATE "C") AS categories
FROM prices r
JOIN products p USING (sku_id)
WHERE r.store_id = $1::text AND r.active AND r.sku_id = ANY ($2::text[])
