-- Stock routines.  A stock row, its lots and its movements change together here and nowhere else;
-- whoever changes the lots of a product holds the lock of its stock row.

-- Forms of before, which took no reason and named no lot.
DROP FUNCTION IF EXISTS take_stock(text, text, integer, text, text);
DROP FUNCTION IF EXISTS receive_stock(text, text, integer, text, date, text, text);

-- store_today: the date on the wall of a store.
CREATE OR REPLACE FUNCTION store_today(p_store_id text) RETURNS date
LANGUAGE sql STABLE AS $$
    SELECT (darkstore_now() AT TIME ZONE c.timezone)::date
    FROM stores s JOIN cities c ON c.id = s.city_id WHERE s.id = p_store_id
$$;

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

-- reserve_more: units of one product are added to a reservation that is still open, for a
-- substitute or for a payment whose yes came after the hold had ended.
-- Returns false, and changes nothing, when the store has too few to sell.
CREATE OR REPLACE FUNCTION reserve_more(
    p_order_id text, p_sku_id text, p_quantity integer, p_actor text
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_store text;
BEGIN
    SELECT store_id INTO STRICT v_store FROM reservations
    WHERE order_id = p_order_id AND status IN ('held', 'firm');
    UPDATE stock SET reserved = reserved + p_quantity, version = version + 1
    WHERE store_id = v_store AND sku_id = p_sku_id AND available >= p_quantity;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO reservation_lines AS l (order_id, sku_id, quantity, open_quantity)
    VALUES (p_order_id, p_sku_id, p_quantity, p_quantity)
    ON CONFLICT (order_id, sku_id) DO UPDATE
    SET quantity = l.quantity + p_quantity, open_quantity = l.open_quantity + p_quantity;
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    VALUES (v_store, p_sku_id, 'reservation', 0, p_quantity, p_order_id, p_actor, darkstore_now());
    RETURN true;
END $$;

-- release_some: units of one product of a reservation are given back, as far as it holds them.
-- Returns how many.
CREATE OR REPLACE FUNCTION release_some(
    p_order_id text, p_sku_id text, p_quantity integer, p_actor text
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_store text;
    v_units integer;
BEGIN
    SELECT r.store_id, least(p_quantity, l.open_quantity) INTO v_store, v_units
    FROM reservations r JOIN reservation_lines l USING (order_id)
    WHERE r.order_id = p_order_id AND l.sku_id = p_sku_id;
    IF coalesce(v_units, 0) = 0 THEN
        RETURN 0;
    END IF;
    UPDATE stock SET reserved = reserved - v_units, version = version + 1
    WHERE store_id = v_store AND sku_id = p_sku_id;
    UPDATE reservation_lines SET open_quantity = open_quantity - v_units
    WHERE order_id = p_order_id AND sku_id = p_sku_id;
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    VALUES (v_store, p_sku_id, 'release', 0, -v_units, p_order_id, p_actor, darkstore_now());
    RETURN v_units;
END $$;

-- stock_put: units come onto the shelf, as a new lot or back into one of the product's own.
--   p_units       how many
--   p_lot_id      the lot; p_expires_on counts for a new one
--   p_kind        the movement's kind; p_reason, p_reference, p_order_id are its grounds
--   p_bagged      units that leave an order's bag with it, as a negative number
-- A lot that is too near its date is on hand and blocked.
-- Raises DS404 for a product without a stock row.
CREATE OR REPLACE FUNCTION stock_put(
    p_store_id text, p_sku_id text, p_units integer, p_lot_id text, p_expires_on date,
    p_kind text, p_actor text, p_reason text, p_reference text, p_order_id text, p_bagged integer
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_days smallint;
    v_blocked boolean;
BEGIN
    SELECT coalesce(s.expiry_block_days, t.expiry_block_days) INTO v_days
    FROM stock s JOIN stores t ON t.id = s.store_id
    WHERE s.store_id = p_store_id AND s.sku_id = p_sku_id FOR UPDATE OF s;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no stock row' USING ERRCODE = 'DS404';
    END IF;
    INSERT INTO lots AS l (id, store_id, sku_id, on_hand, expires_on, received_at, blocked)
    VALUES (p_lot_id, p_store_id, p_sku_id, p_units, p_expires_on, darkstore_now(),
            coalesce(p_expires_on < store_today(p_store_id) + v_days, false))
    ON CONFLICT (id) DO UPDATE SET on_hand = l.on_hand + p_units
    WHERE l.store_id = p_store_id AND l.sku_id = p_sku_id
    RETURNING l.blocked INTO STRICT v_blocked;
    UPDATE stock SET on_hand = on_hand + p_units, version = version + 1,
                     blocked = blocked + CASE WHEN v_blocked THEN p_units ELSE 0 END
    WHERE store_id = p_store_id AND sku_id = p_sku_id;
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, bagged_delta, lot_id, order_id,
         reason, reference, actor, at)
    VALUES (p_store_id, p_sku_id, p_kind, p_units, 0, p_bagged, p_lot_id, p_order_id,
            p_reason, p_reference, p_actor, darkstore_now());
END $$;

-- stock_take: units leave the shelf: one movement a lot, so that every lot's way can be told.
--   p_units     how many
--   p_kind      the movement's kind; p_reason, p_reference, p_order_id are its grounds
--   p_lot_id    of this lot alone, or null: what expires first goes first
-- A pick takes what may be sold before what is blocked, and nothing that is past its date; a
-- transfer sends nothing that is blocked.  Picked and missing units were reserved.
-- Returns what each lot gave.  Raises DS404 for a product without a stock row, DS410 when a pick
-- finds only units past their date, DS500 if the lots hold too few for any other reason.
CREATE OR REPLACE FUNCTION stock_take(
    p_store_id text, p_sku_id text, p_units integer, p_kind text, p_actor text, p_reason text,
    p_reference text, p_order_id text, p_lot_id text
) RETURNS TABLE (lot_id text, units integer, expires_on date)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_reserved boolean := p_kind IN ('pick', 'shortage');
    v_sold boolean := p_kind IN ('pick', 'transfer_out');
    v_not_before date := CASE WHEN p_kind = 'pick' THEN store_today(p_store_id) END;
    v_left integer := p_units;
    v_part integer;
    v_unblocked integer := 0;
    v_lot record;
BEGIN
    PERFORM 1 FROM stock WHERE store_id = p_store_id AND sku_id = p_sku_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no stock row' USING ERRCODE = 'DS404';
    END IF;
    FOR v_lot IN
        SELECT l.id, l.on_hand, l.expires_on, l.blocked FROM lots l
        WHERE l.store_id = p_store_id AND l.sku_id = p_sku_id AND l.on_hand > 0
          AND (p_lot_id IS NULL OR l.id = p_lot_id)
          AND NOT (l.blocked AND p_kind = 'transfer_out')
          AND (v_not_before IS NULL OR l.expires_on IS NULL OR l.expires_on >= v_not_before)
        ORDER BY l.blocked AND v_sold, l.expires_on NULLS LAST, l.id FOR UPDATE
    LOOP
        EXIT WHEN v_left = 0;
        v_part := least(v_left, v_lot.on_hand);
        UPDATE lots SET on_hand = on_hand - v_part WHERE id = v_lot.id;
        INSERT INTO stock_movements
            (store_id, sku_id, kind, on_hand_delta, reserved_delta, bagged_delta, lot_id,
             order_id, reason, reference, actor, at)
        VALUES (p_store_id, p_sku_id, p_kind, -v_part, CASE WHEN v_reserved THEN -v_part ELSE 0 END,
                CASE WHEN p_kind = 'pick' THEN v_part ELSE 0 END, v_lot.id,
                p_order_id, p_reason, p_reference, p_actor, darkstore_now());
        v_left := v_left - v_part;
        IF v_lot.blocked THEN
            v_unblocked := v_unblocked + v_part;
        END IF;
        lot_id := v_lot.id; units := v_part; expires_on := v_lot.expires_on;
        RETURN NEXT;
    END LOOP;
    IF v_left > 0 THEN
        RAISE EXCEPTION 'lots of % in % hold % too few for a %', p_sku_id, p_store_id, v_left,
            p_kind USING ERRCODE = CASE WHEN p_kind = 'pick' AND EXISTS (
                SELECT 1 FROM lots l WHERE l.store_id = p_store_id AND l.sku_id = p_sku_id
                AND l.on_hand > 0 AND l.expires_on < v_not_before) THEN 'DS410' ELSE 'DS500' END;
    END IF;
    UPDATE stock SET on_hand = on_hand - p_units, blocked = blocked - v_unblocked,
                     reserved = reserved - CASE WHEN v_reserved THEN p_units ELSE 0 END,
                     version = version + 1
    WHERE store_id = p_store_id AND sku_id = p_sku_id;
END $$;

-- stock_correct: the count of a product was wrong by p_delta units.
-- Missing units leave the lots that expire first; found ones are taken to be as old as those, in
-- a lot p_lot_id of their own.
CREATE OR REPLACE FUNCTION stock_correct(
    p_store_id text, p_sku_id text, p_delta integer, p_lot_id text, p_kind text, p_actor text,
    p_reason text, p_reference text
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_delta < 0 THEN
        PERFORM stock_take(p_store_id, p_sku_id, -p_delta, p_kind, p_actor, p_reason, p_reference,
                           NULL, NULL);
    ELSE
        PERFORM stock_put(p_store_id, p_sku_id, p_delta, p_lot_id,
                          (SELECT min(l.expires_on) FROM lots l
                           WHERE l.store_id = p_store_id AND l.sku_id = p_sku_id AND l.on_hand > 0),
                          p_kind, p_actor, p_reason, p_reference, NULL, 0);
    END IF;
END $$;

-- take_reserved: reserved units of an order leave the shelf ('pick') or were never there
-- ('shortage').  Raises as stock_take does.
CREATE OR REPLACE FUNCTION take_reserved(
    p_order_id text, p_sku_id text, p_units integer, p_kind text, p_actor text, p_reason text
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_store text;
BEGIN
    SELECT store_id INTO STRICT v_store FROM reservations WHERE order_id = p_order_id;
    PERFORM stock_take(v_store, p_sku_id, p_units, p_kind, p_actor, p_reason, NULL, p_order_id,
                       NULL);
    UPDATE reservation_lines SET open_quantity = open_quantity - p_units
    WHERE order_id = p_order_id AND sku_id = p_sku_id;
END $$;

-- return_picked: units that were picked for an order come back, each into the lot that it is from.
--   p_sku_id        of one product, or null for all
--   p_units         how many of it at most, or null for all
--   p_waste_reason  null: they are sound; else they are thrown away at once, for this reason
-- What has come back before does not come back again.  Returns what came back of each product.
-- Locks stock rows in sku order.
CREATE OR REPLACE FUNCTION return_picked(
    p_order_id text, p_sku_id text, p_units integer, p_actor text, p_waste_reason text
) RETURNS TABLE (sku_id text, units integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_lot record;
    v_left integer;
BEGIN
    sku_id := NULL;
    FOR v_lot IN
        SELECT m.store_id, m.sku_id, m.lot_id, l.expires_on, -sum(m.on_hand_delta)::integer AS out,
               -- Still in the bag, or with a rider?
               (SELECT sum(b.bagged_delta) FROM stock_movements b WHERE b.order_id = p_order_id
                AND b.sku_id = m.sku_id AND b.bagged_delta <> 0) > 0 AS bagged
        FROM stock_movements m JOIN lots l ON l.id = m.lot_id
        WHERE m.order_id = p_order_id AND m.kind IN ('pick', 'return')
          AND (p_sku_id IS NULL OR m.sku_id = p_sku_id)
        GROUP BY m.store_id, m.sku_id, m.lot_id, l.expires_on
        HAVING sum(m.on_hand_delta) < 0
        ORDER BY m.sku_id COLLATE "C", l.expires_on DESC NULLS FIRST, m.lot_id DESC
    LOOP
        IF sku_id IS DISTINCT FROM v_lot.sku_id THEN
            v_left := coalesce(p_units, 2147483647);
        END IF;
        sku_id := v_lot.sku_id;
        units := least(v_left, v_lot.out);
        CONTINUE WHEN units = 0;
        v_left := v_left - units;
        PERFORM stock_put(v_lot.store_id, sku_id, units, v_lot.lot_id, v_lot.expires_on, 'return',
                          p_actor, p_waste_reason, NULL, p_order_id,
                          CASE WHEN v_lot.bagged THEN -units ELSE 0 END);
        IF p_waste_reason IS NOT NULL THEN
            PERFORM stock_take(v_lot.store_id, sku_id, units, 'waste', p_actor, p_waste_reason,
                               NULL, p_order_id, v_lot.lot_id);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- block_by_expiry: decide anew which lots of a product are too near their date to be sold.
-- Returns true when that changed what is available.
CREATE OR REPLACE FUNCTION block_by_expiry(p_store_id text, p_sku_id text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_days smallint;
    v_today date := store_today(p_store_id);
BEGIN
    SELECT coalesce(s.expiry_block_days, t.expiry_block_days) INTO v_days
    FROM stock s JOIN stores t ON t.id = s.store_id
    WHERE s.store_id = p_store_id AND s.sku_id = p_sku_id FOR UPDATE OF s;
    UPDATE lots SET blocked = NOT blocked
    WHERE store_id = p_store_id AND sku_id = p_sku_id
      AND blocked <> coalesce(expires_on < v_today + v_days, false);
    UPDATE stock s SET blocked = l.blocked, version = s.version + 1
    FROM (SELECT coalesce(sum(on_hand) FILTER (WHERE blocked), 0) AS blocked FROM lots
          WHERE store_id = p_store_id AND sku_id = p_sku_id) l
    WHERE s.store_id = p_store_id AND s.sku_id = p_sku_id AND s.blocked <> l.blocked;
    RETURN FOUND;
END $$;

CREATE OR REPLACE FUNCTION stock_movements_are_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'stock movements are append-only: write another one' USING ERRCODE = 'DS500';
END $$;

CREATE OR REPLACE TRIGGER stock_movements_append_only
    BEFORE UPDATE OR DELETE ON stock_movements
    FOR EACH ROW EXECUTE FUNCTION stock_movements_are_append_only();

-- What may move stock, and how.  bagged_delta follows picked units until a rider has them, so that
-- a unit is always somewhere: on the shelf, in a bag, between two stores, or gone for a reason.
-- Why, what for, and from which lot: an adjustment has a reason, a count its count, a pick its
-- order, and whatever changes the shelf names the lot.
-- A trigger, because a CHECK is parsed and compiled anew by every statement: 110 us an insert, and
-- this 1 us a row (docs/decisions/0031).  Each branch is an expression of its own, for a
-- transaction prepares only those that it comes to.
CREATE OR REPLACE FUNCTION stock_movements_are_legal() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_signs boolean := false;
    v_grounds boolean := NEW.order_id IS NOT NULL;
    shelf integer := NEW.on_hand_delta;
    reserved integer := NEW.reserved_delta;
    bagged integer := NEW.bagged_delta;
    v_rule text;
BEGIN
    CASE NEW.kind
    WHEN 'reservation' THEN
        v_signs := shelf = 0 AND reserved > 0 AND bagged = 0;
    WHEN 'release', 'expiry' THEN
        v_signs := shelf = 0 AND reserved < 0 AND bagged = 0;
    WHEN 'pick' THEN
        v_signs := shelf < 0 AND reserved = shelf AND bagged = -shelf;
    WHEN 'shortage' THEN
        v_signs := shelf < 0 AND reserved = shelf AND bagged = 0;
    WHEN 'handover' THEN
        v_signs := shelf = 0 AND reserved = 0 AND bagged < 0;
    WHEN 'return' THEN
        v_signs := shelf > 0 AND reserved = 0 AND bagged IN (0, -shelf);
    WHEN 'receipt' THEN
        v_signs := shelf > 0 AND reserved = 0 AND bagged = 0;
        v_grounds := true;
    WHEN 'adjustment' THEN
        v_signs := shelf <> 0 AND reserved = 0 AND bagged = 0;
        v_grounds := NEW.reason IS NOT NULL;
    WHEN 'waste' THEN
        v_signs := shelf < 0 AND reserved = 0 AND bagged = 0;
        v_grounds := NEW.reason IS NOT NULL;
    WHEN 'count' THEN
        v_signs := shelf <> 0 AND reserved = 0 AND bagged = 0;
        v_grounds := NEW.reference IS NOT NULL;
    WHEN 'transfer_out' THEN
        v_signs := shelf < 0 AND reserved = 0 AND bagged = 0;
        v_grounds := NEW.reference IS NOT NULL;
    WHEN 'transfer_in' THEN
        v_signs := shelf > 0 AND reserved = 0 AND bagged = 0;
        v_grounds := NEW.reference IS NOT NULL;
    ELSE
        -- No such kind.
    END CASE;
    IF v_signs AND v_grounds AND (NEW.lot_id IS NULL) = (shelf = 0) THEN
        RETURN NEW;
    END IF;
    v_rule := 'ck_stock_movements_' || CASE WHEN v_signs IS NOT TRUE THEN 'signs'
                                            WHEN v_grounds THEN 'lot' ELSE 'grounds' END;
    RAISE EXCEPTION 'a % cannot move stock like this: %', NEW.kind, v_rule
        USING ERRCODE = 'check_violation', TABLE = 'stock_movements', CONSTRAINT = v_rule;
END $$;

CREATE OR REPLACE TRIGGER stock_movements_legal
    BEFORE INSERT ON stock_movements
    FOR EACH ROW EXECUTE FUNCTION stock_movements_are_legal();
