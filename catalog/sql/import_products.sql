-- import_products: upsert one batch of products and make their categories those of the batch.
--   $1 jsonb  [{sku_id (for a new product), external_id, name, brand, unit, weight_g, volume_ml,
--              tax_class, tax_rate_bp, temperature, barcode, image_url, shelf_life_days,
--              categories: [{slug, title}]}], each external_id once
-- Returns a row a product: external_id, sku_id, inserted, changed (row or categories).
-- The caller holds the import lock, so no product appears between snapshot and insert.
WITH input AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS d(
        sku_id text, external_id text, name text, brand text, unit text, weight_g integer,
        volume_ml integer, tax_class text, tax_rate_bp integer, temperature text, barcode text,
        image_url text, shelf_life_days integer, categories jsonb)
), known AS MATERIALIZED (
    SELECT p.external_id, p.sku_id FROM products p JOIN input i USING (external_id)
), written AS (
    INSERT INTO products AS p (
        sku_id, external_id, name, brand, unit, weight_g, volume_ml, tax_class, tax_rate_bp,
        temperature, barcode, image_url, shelf_life_days, updated_at)
    SELECT sku_id, external_id, name, brand, unit, weight_g, volume_ml, tax_class, tax_rate_bp,
           temperature, barcode, image_url, shelf_life_days, darkstore_now()
    FROM input
    ON CONFLICT (external_id) DO UPDATE SET
        name = excluded.name, brand = excluded.brand, unit = excluded.unit,
        weight_g = excluded.weight_g, volume_ml = excluded.volume_ml,
        tax_class = excluded.tax_class, tax_rate_bp = excluded.tax_rate_bp,
        temperature = excluded.temperature, barcode = excluded.barcode,
        image_url = excluded.image_url, shelf_life_days = excluded.shelf_life_days,
        updated_at = excluded.updated_at
    WHERE (p.name, p.brand, p.unit, p.weight_g, p.volume_ml, p.tax_class, p.tax_rate_bp,
           p.temperature, p.barcode, p.image_url, p.shelf_life_days)
        IS DISTINCT FROM
          (excluded.name, excluded.brand, excluded.unit, excluded.weight_g, excluded.volume_ml,
           excluded.tax_class, excluded.tax_rate_bp, excluded.temperature, excluded.barcode,
           excluded.image_url, excluded.shelf_life_days)
    RETURNING external_id, sku_id
), ids AS MATERIALIZED (
    SELECT i.external_id, coalesce(k.sku_id, i.sku_id) AS sku_id, k.sku_id IS NULL AS inserted,
           i.categories
    FROM input i LEFT JOIN known k USING (external_id)
), wanted AS MATERIALIZED (
    SELECT ids.sku_id, c.slug, c.title
    FROM ids CROSS JOIN jsonb_to_recordset(ids.categories) AS c(slug text, title text)
), shelves AS (
    INSERT INTO categories (slug, title)
    SELECT DISTINCT ON (slug) slug, title FROM wanted ORDER BY slug, title
    ON CONFLICT (slug) DO NOTHING
), removed AS (
    DELETE FROM product_categories pc USING ids
    WHERE pc.sku_id = ids.sku_id
      AND NOT EXISTS (SELECT FROM wanted w WHERE w.sku_id = pc.sku_id AND w.slug = pc.category)
    RETURNING pc.sku_id
), added AS (
    INSERT INTO product_categories (sku_id, category)
    SELECT DISTINCT sku_id, slug FROM wanted
    ON CONFLICT DO NOTHING
    RETURNING sku_id
), touched AS (
    SELECT sku_id FROM written UNION SELECT sku_id FROM removed UNION SELECT sku_id FROM added
)
SELECT ids.external_id, ids.sku_id, ids.inserted, t.sku_id IS NOT NULL AS changed
FROM ids LEFT JOIN touched t USING (sku_id)
