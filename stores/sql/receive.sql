-- receive: deliveries to a store, each a lot of its own.
--   $1 text   store id
--   $2 jsonb  [{sku_id, quantity, lot_id, expires_on (date or null)}]
--   $3 text   actor
--   $4 text   receipt id, or null
-- Returns a row a delivery.  Raises DS404 for a product without a stock row.
SELECT stock_put($1::text, d.sku_id, d.quantity, d.lot_id, d.expires_on, 'receipt', $3::text,
                 NULL, $4::text, NULL, 0)
FROM jsonb_to_recordset($2::text::jsonb)
     AS d(sku_id text, quantity integer, lot_id text, expires_on date)
ORDER BY d.sku_id COLLATE "C"
