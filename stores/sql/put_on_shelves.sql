-- put_on_shelves: bins and empty stock rows for products that a store has not carried so far.
--   $1 text   store id
--   $2 jsonb  [{sku_id, bin, temperature, walk_order}]
-- Returns sku_id of every new stock row.
WITH input AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($2::text::jsonb)
        AS d(sku_id text, bin text, temperature text, walk_order integer)
), places AS (
    INSERT INTO bins (store_id, code, temperature, walk_order)
    SELECT $1::text, bin, temperature, walk_order FROM input
    ON CONFLICT DO NOTHING
)
INSERT INTO stock (store_id, sku_id, bin)
SELECT $1::text, sku_id, bin FROM input
ON CONFLICT DO NOTHING
RETURNING sku_id
