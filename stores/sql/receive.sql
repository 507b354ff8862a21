-- receive: deliveries to a store, each through the routine receive_stock.
--   $1 text   store id
--   $2 jsonb  [{sku_id, quantity, lot_id, expires_on (date or null)}]
--   $3 text   actor
-- Returns a row a delivery.  Raises DS404 for a product without a stock row.
SELECT receive_stock($1::text, d.sku_id, d.quantity, d.lot_id, d.expires_on, 'receipt', $3::text)
FROM jsonb_to_recordset($2::text::jsonb)
     AS d(sku_id text, quantity integer, lot_id text, expires_on date)
ORDER BY d.sku_id COLLATE "C"
