-- alternatives: for each product others in stock that are most like it: of the same temperature,
-- sharing the most categories, nearest in price.
--   $1 text    store id
--   $2 text[]  sku ids that are out of stock
--   $3 int     how many for each, at most
-- Reads the stock table, which is the truth, since the live layer cannot be searched.
WITH shelf AS MATERIALIZED (
    SELECT r.sku_id, r.price_minor, p.temperature, s.available
    FROM prices r
    JOIN stock s ON s.store_id = r.store_id AND s.sku_id = r.sku_id AND s.available > 0
    JOIN products p ON p.sku_id = r.sku_id
    WHERE r.store_id = $1::text AND r.active
), near AS (
    SELECT mine.sku_id AS instead_of, other.sku_id, count(*) AS shared
    FROM product_categories mine
    JOIN product_categories other USING (category)
    WHERE mine.sku_id = ANY ($2::text[]) AND other.sku_id <> mine.sku_id
    GROUP BY 1, 2
), ranked AS (
    SELECT near.instead_of, near.sku_id, shelf.available, row_number() OVER (
        PARTITION BY near.instead_of
        -- A frozen product does not stand in for a fresh one while anything else does.
        -- "Milk" and "Dairy" in common is nearer than "Dairy" alone, whatever it costs.
        ORDER BY shelf.temperature <> wp.temperature, near.shared DESC,
                 abs(shelf.price_minor - wanted.price_minor), near.sku_id) AS place
    FROM near
    JOIN shelf ON shelf.sku_id = near.sku_id
    JOIN prices wanted ON wanted.store_id = $1::text AND wanted.sku_id = near.instead_of
    JOIN products wp ON wp.sku_id = near.instead_of
)
SELECT k.instead_of, p.sku_id, p.name, p.brand, p.unit, p.image_url, r.price_minor,
       r.list_price_minor, r.currency, k.available
FROM ranked k
JOIN products p USING (sku_id)
JOIN prices r ON r.store_id = $1::text AND r.sku_id = k.sku_id
WHERE k.place <= $3::integer
ORDER BY k.instead_of, k.place
