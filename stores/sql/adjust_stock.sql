-- adjust_stock: correct the count of a product: stock row, lots and movement together.
--   $1 text  store id
--   $2 text  sku id
--   $3 int   units more (positive: found) or fewer (negative: gone)
--   $4 text  id of the lot that found units become
--   $5 text  the movement's kind
--   $6 text  actor
-- Returns on_hand, reserved after it, and lots_short: units that the lots lacked (0 unless broken).
-- The caller holds the row's lock (lock_stock) and has checked that on_hand stays >= reserved.
-- Missing units leave the lots that expire first; found ones are taken to be as old as those.
WITH changed AS (
    UPDATE stock SET on_hand = on_hand + $3::integer, version = version + 1
    WHERE store_id = $1::text AND sku_id = $2::text
    RETURNING on_hand, reserved
), held AS (
    SELECT id, on_hand, expires_on,
           sum(on_hand) OVER (ORDER BY expires_on NULLS LAST, id) - on_hand AS before
    FROM lots
    WHERE store_id = $1::text AND sku_id = $2::text AND on_hand > 0
), taken AS (
    UPDATE lots l SET on_hand = l.on_hand - least(h.on_hand, -$3::integer - h.before)
    FROM held h
    WHERE l.id = h.id AND h.before < -$3::integer
    RETURNING least(h.on_hand, -$3::integer - h.before) AS units
), found AS (
    INSERT INTO lots (id, store_id, sku_id, on_hand, expires_on, received_at)
    SELECT $4::text, $1::text, $2::text, $3::integer, (SELECT min(expires_on) FROM held),
           darkstore_now()
    WHERE $3::integer > 0
), moved AS (
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    VALUES ($1::text, $2::text, $5::text, $3::integer, 0, NULL, $6::text, darkstore_now())
)
SELECT on_hand, reserved,
       (greatest(0, -$3::integer) - coalesce((SELECT sum(units) FROM taken), 0))::integer
           AS lots_short
FROM changed
