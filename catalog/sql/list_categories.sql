-- list_categories: the categories of a store, each with the number of products that it sells there.
--   $1 text  store id
SELECT c.slug, c.title, count(*)::integer AS products
FROM prices r
JOIN product_categories pc USING (sku_id)
JOIN categories c ON c.slug = pc.category
WHERE r.store_id = $1::text AND r.active
GROUP BY c.slug, c.title
ORDER BY c.title COLLATE "C", c.slug
