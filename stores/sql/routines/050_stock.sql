-- release_reservation: give back all that a reservation still holds.
--   p_order_id  whose reservation
--   p_kind      the movement's kind: 'release' or 'expiry'
--   p_actor     who does it
-- Returns true when there was something to release.  Locks stock rows in sku order.
CREATE OR REPLACE FUNCTION release_reservation(p_order_id text, p_kind text, p_actor text)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_store text;
BEGIN
    UPDATE reservations SET status = 'released', expires_at = NULL
    WHERE order_id = p_order_id AND status IN ('held', 'firm')
    RETURNING store_id INTO v_store;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    WITH locked AS MATERIALIZED (
        SELECT s.sku_id, r.open_quantity
        FROM stock s JOIN reservation_lines r USING (sku_id)
        WHERE s.store_id = v_store AND r.order_id = p_order_id AND r.open_quantity > 0
        ORDER BY s.sku_id COLLATE "C" FOR UPDATE OF s
    ), given AS (
        UPDATE stock s SET reserved = s.reserved - l.open_quantity, version = s.version + 1
        FROM locked l WHERE s.store_id = v_store AND s.sku_id = l.sku_id
        RETURNING s.sku_id, l.open_quantity
    )
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    SELECT v_store, sku_id, p_kind, 0, -open_quantity, p_order_id, p_actor, darkstore_now()
    FROM given;
    UPDATE reservation_lines SET open_quantity = 0 WHERE order_id = p_order_id;
    RETURN true;
END $$;

-- take_stock: reserved units leave the shelf, or were never there; the earliest expiry goes first.
--   p_order_id, p_sku_id, p_quantity   how many of which order
--   p_kind      the movement's kind: 'pick', or 'adjustment' for units that nobody can find
--   p_actor     the picker
-- Raises DS500 if the lots do not hold what the stock row says.
CREATE OR REPLACE FUNCTION take_stock(
    p_order_id text, p_sku_id text, p_quantity integer, p_kind text, p_actor text
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_store text;
    v_left integer := p_quantity;
    v_part integer;
    v_lot record;
BEGIN
    SELECT store_id INTO STRICT v_store FROM reservations WHERE order_id = p_order_id;
    UPDATE stock SET on_hand = on_hand - p_quantity, reserved = reserved - p_quantity,
                     version = version + 1
    WHERE store_id = v_store AND sku_id = p_sku_id;
    UPDATE reservation_lines SET open_quantity = open_quantity - p_quantity
    WHERE order_id = p_order_id AND sku_id = p_sku_id;
    FOR v_lot IN
        SELECT id, on_hand FROM lots
        WHERE store_id = v_store AND sku_id = p_sku_id AND on_hand > 0
        ORDER BY expires_on NULLS LAST, id FOR UPDATE
    LOOP
        EXIT WHEN v_left = 0;
        v_part := least(v_left, v_lot.on_hand);
        UPDATE lots SET on_hand = on_hand - v_part WHERE id = v_lot.id;
        v_left := v_left - v_part;
    END LOOP;
    IF v_left > 0 THEN
        RAISE EXCEPTION 'lots of % in % hold % too few', p_sku_id, v_store, v_left
            USING ERRCODE = 'DS500';
    END IF;
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    VALUES (v_store, p_sku_id, p_kind, -p_quantity, -p_quantity, p_order_id, p_actor,
            darkstore_now());
END $$;

-- receive_stock: a delivery to the store: a new lot, more on hand.
CREATE OR REPLACE FUNCTION receive_stock(
    p_store_id text, p_sku_id text, p_quantity integer, p_lot_id text, p_expires_on date,
    p_kind text, p_actor text
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stock SET on_hand = on_hand + p_quantity, version = version + 1
    WHERE store_id = p_store_id AND sku_id = p_sku_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no stock row' USING ERRCODE = 'DS404';
    END IF;
    INSERT INTO lots (id, store_id, sku_id, on_hand, expires_on, received_at)
    VALUES (p_lot_id, p_store_id, p_sku_id, p_quantity, p_expires_on, darkstore_now());
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    VALUES (p_store_id, p_sku_id, p_kind, p_quantity, 0, NULL, p_actor, darkstore_now());
END $$;

CREATE OR REPLACE FUNCTION stock_movements_are_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'stock movements are append-only: write another one' USING ERRCODE = 'DS500';
END $$;

CREATE OR REPLACE TRIGGER stock_movements_append_only
    BEFORE UPDATE OR DELETE ON stock_movements
    FOR EACH ROW EXECUTE FUNCTION stock_movements_are_append_only();
