-- Which products' availability some orders have changed.
--   $1 order ids (text[])
SELECT r.store_id, array_agg(DISTINCT l.sku_id) AS sku_ids
FROM reservations r JOIN reservation_lines l USING (order_id)
WHERE r.order_id = ANY ($1::text[]) GROUP BY 1
