-- A customer's stock alerts, the latest first.
--   $1 user id, $2 the last id of the page before, or null, $3 rows wanted, $4 this alert, or null
SELECT a.id, a.store_id, a.sku_id, p.name, p.unit, p.image_url, a.created_at, a.fired_at,
       coalesce(s.available > 0, false) AS in_stock
FROM stock_alerts a
JOIN products p USING (sku_id)
LEFT JOIN stock s USING (store_id, sku_id)
WHERE a.user_id = $1::text AND ($2::text IS NULL OR a.id < $2::text)
  AND ($4::text IS NULL OR a.id = $4::text)
ORDER BY a.id DESC LIMIT $3::integer
