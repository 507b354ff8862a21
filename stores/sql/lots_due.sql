-- Products with a lot that has come too near its date and is not blocked yet.
--   $1 the date from which on none is due (lots_due_until)
--   $2 how many at most
-- Returns store_id, sku_id in the order in which stock is locked.
WITH near AS MATERIALIZED (
    SELECT store_id, sku_id, min(expires_on) AS expires_on FROM lots
    WHERE NOT blocked AND expires_on < $1::date
    GROUP BY 1, 2
), rules AS MATERIALIZED (
    SELECT t.id AS store_id, (m.now AT TIME ZONE c.timezone)::date AS today, t.expiry_block_days
    FROM stores t JOIN cities c ON c.id = t.city_id
    CROSS JOIN (SELECT darkstore_now() AS now OFFSET 0) m
)
SELECT n.store_id, n.sku_id
FROM near n
JOIN rules r USING (store_id)
JOIN stock s ON s.store_id = n.store_id AND s.sku_id = n.sku_id
WHERE n.expires_on < r.today + coalesce(s.expiry_block_days, r.expiry_block_days)
ORDER BY 1, 2 LIMIT $2::integer
