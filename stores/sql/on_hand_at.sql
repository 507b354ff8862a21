-- What was on hand when somebody counted: what is there now, less what has moved since.
--   $1 store id
--   $2 [{sku_id, at (timestamptz)}]
-- The caller holds the stock rows.  Returns sku_id, on_hand.
SELECT s.sku_id, s.on_hand - coalesce((
    SELECT sum(m.on_hand_delta) FROM stock_movements m
    WHERE m.store_id = s.store_id AND m.sku_id = s.sku_id AND m.at > w.at), 0)::integer AS on_hand
FROM jsonb_to_recordset($2::text::jsonb) AS w(sku_id text, at timestamptz)
JOIN stock s ON s.store_id = $1::text AND s.sku_id = w.sku_id
