-- Put all units that were picked for an order back on the shelf, as lots that expire as early as
-- the earliest lot of the product: nobody notes which lot a unit in a bag came from.
--   $1 order id, $2 actor
-- The caller holds the stock rows (lock_order_stock).  The lots' ids make a second return of the
-- same order impossible.
WITH picked AS (
    SELECT t.store_id, l.sku_id, sum(l.picked)::integer AS quantity
    FROM pick_tasks t JOIN pick_task_lines l ON l.pick_task_id = t.id
    WHERE t.order_id = $1::text AND l.picked > 0
    GROUP BY 1, 2
), raised AS (
    UPDATE stock s SET on_hand = s.on_hand + p.quantity, version = s.version + 1
    FROM picked p WHERE s.store_id = p.store_id AND s.sku_id = p.sku_id
), returned AS (
    INSERT INTO lots (id, store_id, sku_id, on_hand, expires_on, received_at)
    SELECT 'lot_return_' || $1::text || '_' || p.sku_id, p.store_id, p.sku_id, p.quantity,
           (SELECT min(l.expires_on) FROM lots l
            WHERE l.store_id = p.store_id AND l.sku_id = p.sku_id), darkstore_now()
    FROM picked p
)
INSERT INTO stock_movements
    (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
SELECT store_id, sku_id, 'return', quantity, 0, $1::text, $2::text, darkstore_now() FROM picked
