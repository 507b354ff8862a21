-- Units neither appear nor vanish: a stock row equals the sum of its movements and of its lots,
-- what it has reserved equals what the reservations still hold open, and what it has blocked
-- equals its lots that are too near their date.
-- Returns store/sku and each of the sums that should be equal.
WITH moved AS (
    SELECT store_id, sku_id, sum(on_hand_delta) AS on_hand, sum(reserved_delta) AS reserved
    FROM stock_movements GROUP BY 1, 2
), held_in_lots AS (
    SELECT store_id, sku_id, sum(on_hand) AS on_hand,
           coalesce(sum(on_hand) FILTER (WHERE blocked), 0) AS blocked
    FROM lots GROUP BY 1, 2
), promised AS (
    SELECT r.store_id, l.sku_id, sum(l.open_quantity) AS reserved
    FROM reservations r JOIN reservation_lines l USING (order_id) GROUP BY 1, 2
)
SELECT store_id || '/' || sku_id AS id, s.on_hand, coalesce(m.on_hand, 0) AS moved,
       coalesce(h.on_hand, 0) AS in_lots, s.reserved, coalesce(m.reserved, 0) AS reserved_moved,
       coalesce(p.reserved, 0) AS promised, s.blocked, coalesce(h.blocked, 0) AS blocked_in_lots
FROM stock s
FULL JOIN moved m USING (store_id, sku_id)
FULL JOIN held_in_lots h USING (store_id, sku_id)
FULL JOIN promised p USING (store_id, sku_id)
WHERE s.on_hand IS DISTINCT FROM coalesce(m.on_hand, 0)
   OR s.on_hand IS DISTINCT FROM coalesce(h.on_hand, 0)
   OR s.reserved IS DISTINCT FROM coalesce(m.reserved, 0)
   OR s.reserved IS DISTINCT FROM coalesce(p.reserved, 0)
   OR s.blocked IS DISTINCT FROM coalesce(h.blocked, 0)
