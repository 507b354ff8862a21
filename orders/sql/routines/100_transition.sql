-- order_move: the way in which a state of an order changes (settle_authorised does two at once).
--   p_order_id  the order
--   p_machine   'order', 'delivery' or 'payment'
--   p_to        the wanted state
--   p_actor     who does it: a user id, or 'system'
--   p_reason    why, or null
-- Locks the order's row, checks the edge against state_edges, moves the state, writes the history
-- entry and the order.status event.  Returns the state that was left.
-- Raises DS404 when there is no such order, DS409 when the machine has no such edge.
CREATE OR REPLACE FUNCTION order_move(
    p_order_id text, p_machine text, p_to text, p_actor text, p_reason text
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    o orders%ROWTYPE;
    v_from text;
    v_now timestamptz := darkstore_now();
BEGIN
    SELECT * INTO o FROM orders WHERE id = p_order_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no order %', p_order_id USING ERRCODE = 'DS404';
    END IF;
    v_from := CASE p_machine
        WHEN 'order' THEN o.status
        WHEN 'delivery' THEN o.delivery_status
        WHEN 'payment' THEN o.payment_status
    END;
    PERFORM 1 FROM state_edges
    WHERE machine = p_machine AND from_state = v_from AND to_state = p_to;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is %, and cannot become %', p_machine, v_from, p_to
            USING ERRCODE = 'DS409', DETAIL = p_machine || ':' || v_from || ':' || p_to;
    END IF;
    UPDATE orders SET
        status = CASE WHEN p_machine = 'order' THEN p_to ELSE status END,
        delivery_status = CASE WHEN p_machine = 'delivery' THEN p_to ELSE delivery_status END,
        payment_status = CASE WHEN p_machine = 'payment' THEN p_to ELSE payment_status END,
        packed_at = CASE WHEN p_machine = 'order' AND p_to = 'packed' THEN v_now
                         ELSE packed_at END,
        delivered_at = CASE WHEN p_machine = 'order' AND p_to = 'delivered' THEN v_now
                            ELSE delivered_at END,
        version = version + 1,
        history_seq = history_seq + 1
    WHERE id = p_order_id
    RETURNING * INTO o;
    INSERT INTO order_history (order_id, seq, machine, from_state, to_state, at, actor, reason)
    VALUES (p_order_id, o.history_seq, p_machine, v_from, p_to, v_now, p_actor, p_reason);
    PERFORM outbox_append('order:' || p_order_id, 'order.status', jsonb_build_object(
        'machine', p_machine, 'from', v_from, 'to', p_to, 'reason', p_reason,
        'status', o.status, 'delivery_status', o.delivery_status,
        'payment_status', o.payment_status, 'version', o.version));
    RETURN v_from;
END $$;

-- Backstop: a state that is written by any other statement still has to follow an edge.
CREATE OR REPLACE FUNCTION orders_check_edges() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.status <> OLD.status AND NOT EXISTS (
            SELECT 1 FROM state_edges WHERE machine = 'order'
            AND from_state = OLD.status AND to_state = NEW.status))
        OR (NEW.delivery_status <> OLD.delivery_status AND NOT EXISTS (
            SELECT 1 FROM state_edges WHERE machine = 'delivery'
            AND from_state = OLD.delivery_status AND to_state = NEW.delivery_status))
        OR (NEW.payment_status <> OLD.payment_status AND NOT EXISTS (
            SELECT 1 FROM state_edges WHERE machine = 'payment'
            AND from_state = OLD.payment_status AND to_state = NEW.payment_status))
    THEN
        RAISE EXCEPTION 'illegal edge on order %', OLD.id USING ERRCODE = 'DS409';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER orders_check_edges
    BEFORE UPDATE OF status, delivery_status, payment_status ON orders
    FOR EACH ROW EXECUTE FUNCTION orders_check_edges();
