-- What a reservation holds is what its order still needs: the open units of its lines, and those of
-- substitutes that are offered or to be fetched.  One that is done holds nothing.
-- Returns order/sku with what is held and what is needed.
WITH needed AS (
    SELECT order_id, sku_id, sum(units) AS units FROM (
        SELECT order_id, sku_id, quantity - picked_quantity - missing_quantity AS units
        FROM order_lines
        UNION ALL
        SELECT order_id, sku_id, quantity - picked_quantity - missing_quantity
        FROM order_substitutions WHERE status IN ('proposed', 'approved')
    ) AS each GROUP BY 1, 2
), compared AS (
    SELECT r.order_id, coalesce(l.sku_id, n.sku_id) AS sku_id, r.status,
           coalesce(l.open_quantity, 0) AS held,
           CASE WHEN r.status IN ('held', 'firm') THEN coalesce(n.units, 0) ELSE 0 END AS needed
    FROM (SELECT order_id, sku_id, open_quantity FROM reservation_lines) l
    FULL JOIN needed n ON n.order_id = l.order_id AND n.sku_id = l.sku_id
    JOIN reservations r ON r.order_id = coalesce(l.order_id, n.order_id)
)
SELECT order_id || '/' || sku_id AS id, status, held, needed FROM compared WHERE held <> needed
