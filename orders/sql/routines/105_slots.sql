-- Delivery slots: quarters of an hour with room for so many orders of a store.
--
-- A slot's row is locked after the order's and before stock; two rows of a store in the order of
-- their start.

-- slot_capacity: how many orders a store takes in the slot that begins at p_start; null when no
-- slot begins there, because of the opening hours or because it is not a quarter of an hour.
-- Hours are read on the clock of the store's city; weekday and hour may say another capacity.
CREATE OR REPLACE FUNCTION slot_capacity(p_store_id text, p_start timestamptz) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT coalesce(c.capacity, s.slot_capacity)::integer
    FROM stores s
    JOIN cities y ON y.id = s.city_id
    CROSS JOIN LATERAL (SELECT p_start AT TIME ZONE y.timezone AS at) wall
    CROSS JOIN LATERAL (
        SELECT extract(isodow FROM wall.at)::integer - 1 AS weekday,
               extract(hour FROM wall.at)::integer AS hour,
               extract(hour FROM wall.at)::integer * 60
                   + extract(minute FROM wall.at)::integer AS minute
    ) t
    LEFT JOIN store_hours h ON h.store_id = s.id AND h.weekday = t.weekday
    LEFT JOIN slot_capacities c
        ON c.store_id = s.id AND c.weekday = t.weekday AND c.hour = t.hour
    WHERE s.id = p_store_id
      AND p_start = date_bin('15 minutes', p_start, 'epoch')
      AND t.minute >= coalesce(h.opens_minute, s.opens_minute)
      AND t.minute + 15 <= coalesce(h.closes_minute, s.closes_minute)
$$;

-- slot_row: make sure that a slot has a row.
CREATE OR REPLACE FUNCTION slot_row(p_store_id text, p_start timestamptz) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO delivery_slots (store_id, starts_at, capacity)
    VALUES (p_store_id, p_start, 0) ON CONFLICT DO NOTHING
$$;

-- take_slot: take one place; false when the slot is full, blocked, over, or none.
-- The capacity of this moment counts: what ops change holds for the next order, and whoever has
-- a place keeps it.
CREATE OR REPLACE FUNCTION take_slot(p_store_id text, p_start timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_capacity integer := slot_capacity(p_store_id, p_start);
BEGIN
    IF coalesce(v_capacity, 0) = 0 OR p_start <= darkstore_now() THEN
        RETURN false;
    END IF;
    PERFORM slot_row(p_store_id, p_start);
    UPDATE delivery_slots SET taken = taken + 1, capacity = v_capacity
    WHERE store_id = p_store_id AND starts_at = p_start AND NOT blocked AND taken < v_capacity;
    RETURN FOUND;
END $$;

-- give_back_slot: free one place.
CREATE OR REPLACE FUNCTION give_back_slot(p_store_id text, p_start timestamptz) RETURNS void
LANGUAGE sql AS $$
    UPDATE delivery_slots SET taken = taken - 1 WHERE store_id = p_store_id AND starts_at = p_start
$$;

-- swap_slot: take a place in p_new and only then free the one in p_old (null: there is none).
-- Both rows are locked first, the earlier one first, so that two orders that change places do
-- not wait for each other.  False leaves both as they were.
CREATE OR REPLACE FUNCTION swap_slot(p_store_id text, p_old timestamptz, p_new timestamptz)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_start timestamptz;
BEGIN
    FOR v_start IN
        SELECT t.at FROM unnest(ARRAY[p_old, p_new]) AS t(at) WHERE t.at IS NOT NULL ORDER BY t.at
    LOOP
        PERFORM slot_row(p_store_id, v_start);
        PERFORM 1 FROM delivery_slots
        WHERE store_id = p_store_id AND starts_at = v_start FOR UPDATE;
    END LOOP;
    IF NOT take_slot(p_store_id, p_new) THEN
        RETURN false;
    END IF;
    IF p_old IS NOT NULL THEN
        PERFORM give_back_slot(p_store_id, p_old);
    END IF;
    RETURN true;
END $$;

-- An order that ends before anybody has picked for it frees its place, whoever ends it.
CREATE OR REPLACE FUNCTION orders_give_back_slot() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM give_back_slot(OLD.store_id, OLD.slot_start);
    NEW.slot_held := false;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER orders_give_back_slot
    BEFORE UPDATE OF status ON orders
    FOR EACH ROW
    WHEN (OLD.slot_held AND OLD.status IN ('placed', 'confirmed')
          AND NEW.status IN ('cancelled', 'payment_failed'))
    EXECUTE FUNCTION orders_give_back_slot();
