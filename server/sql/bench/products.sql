-- Products of a store, each with a price and an empty shelf.
--   $1 store id, $2 prefix of sku ids, $3 how many
WITH made AS (
    SELECT $2::text || '_' || lpad(n::text, 6, '0') AS sku_id, n
    FROM generate_series(1, $3::integer) AS n
), product AS (
    INSERT INTO products (
        sku_id, external_id, name, brand, unit, weight_g, tax_class, tax_rate_bp, temperature,
        barcode, image_url, updated_at)
    SELECT sku_id, sku_id, 'Product ' || n, 'Bench', '1 pc', 300, 'standard', 500, 'ambient',
           sku_id, '', darkstore_now()
    FROM made
), price AS (
    INSERT INTO prices (store_id, sku_id, price_minor, list_price_minor, currency, updated_at)
    SELECT $1::text, sku_id, 4900, 4900, 'INR', darkstore_now() FROM made
)
INSERT INTO stock (store_id, sku_id, bin)
SELECT $1::text, sku_id, 'A1' FROM made
RETURNING sku_id
