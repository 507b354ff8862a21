-- list_products: a page of what a store sells, in the order of sku_id (that of the catalogue).
--   $1 text    store id
--   $2 text[]  words in lower case, all of which brand and name must contain
--   $3 text    category slug, or null for all
--   $4 text    the last sku_id of the page before, or null
--   $5 int     rows wanted
SELECT p.sku_id, p.name, p.brand, p.unit, p.weight_g, p.temperature, p.tax_rate_bp, p.image_url,
       r.price_minor, r.list_price_minor, r.currency,
       ARRAY(SELECT c.title FROM product_categories pc JOIN categories c ON c.slug = pc.category
             WHERE pc.sku_id = p.sku_id ORDER BY c.title COLLATE "C") AS categories
FROM prices r
JOIN products p USING (sku_id)
WHERE r.store_id = $1::text
  AND r.active
  AND ($4::text IS NULL OR r.sku_id > $4::text)
  AND ($3::text IS NULL OR EXISTS (
        SELECT FROM product_categories pc WHERE pc.sku_id = r.sku_id AND pc.category = $3::text))
  AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS w(word)
                  WHERE strpos(lower(concat_ws(' ', p.brand, p.name)), w.word) = 0)
ORDER BY r.sku_id
LIMIT $5::integer
