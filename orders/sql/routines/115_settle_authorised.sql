-- settle_authorised: the outcome of nearly every checkout in one call: the first gateway that was
-- asked said yes, and nothing has happened to the order meanwhile.
--   p_operation_id  the authorisation that the checkout has asked for
--   p_reference     the gateway's name for the payment
--   p_code          what it said besides, or null
-- Returns true when payment, order and reservation were moved, now or by the gateway's own event
-- before; false when anything is out of the ordinary: then nothing was changed, and
-- orders.payment_flow.settle does it step by step.
-- Writes what record_outcome, make_firm and two calls of order_move write, each row once; the
-- trigger orders_check_edges checks both edges.
CREATE OR REPLACE FUNCTION settle_authorised(p_operation_id text, p_reference text, p_code text)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := darkstore_now();
    v_order_id text;
    v_stream text;
    v_seq bigint;
    v_paid boolean;
    o record;
BEGIN
    SELECT order_id INTO v_order_id FROM payment_operations WHERE id = p_operation_id;
    SELECT status, payment_status, delivery_status INTO o FROM orders
    WHERE id = v_order_id FOR UPDATE;
    IF o.status IS DISTINCT FROM 'placed' OR o.payment_status <> 'pending' THEN
        SELECT status = 'succeeded' AND kind = 'authorise' INTO v_paid
        FROM payment_operations WHERE id = p_operation_id;
        RETURN coalesce(v_paid, false);
    END IF;
    UPDATE payment_operations SET
        status = 'succeeded', reference = coalesce(p_reference, reference), code = p_code,
        answers = answers + 1, token = NULL, route = NULL, settled_at = v_now
    WHERE id = p_operation_id AND kind = 'authorise' AND status = 'pending'
      AND attempts = 1 AND answers = 0;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE reservations SET status = 'firm', expires_at = NULL
    WHERE order_id = v_order_id AND status = 'held';
    UPDATE orders SET status = 'confirmed', payment_status = 'authorised',
                      version = version + 2, history_seq = history_seq + 2
    WHERE id = v_order_id RETURNING version, history_seq, delivery_status INTO o;
    INSERT INTO order_history (order_id, seq, machine, from_state, to_state, at, actor) VALUES
        (v_order_id, o.history_seq - 1, 'payment', 'pending', 'authorised', v_now, 'system'),
        (v_order_id, o.history_seq, 'order', 'placed', 'confirmed', v_now, 'system');
    v_stream := 'order:' || v_order_id;
    INSERT INTO stream_heads AS h (stream, seq) VALUES (v_stream, 2)
    ON CONFLICT (stream) DO UPDATE SET seq = h.seq + 2
    RETURNING h.seq INTO v_seq;
    INSERT INTO outbox (stream, seq, partition, type, data, at)
    SELECT v_stream, v_seq + e.place, abs(hashtext(v_stream)::bigint) % 16, 'order.status',
           jsonb_build_object(
               'machine', e.machine, 'from', e.from_state, 'to', e.to_state, 'reason', NULL,
               'status', e.status, 'delivery_status', o.delivery_status,
               'payment_status', 'authorised', 'version', o.version + e.place), v_now
    FROM (VALUES (-1, 'payment', 'pending', 'authorised', 'placed'),
                 (0, 'order', 'placed', 'confirmed', 'confirmed')
         ) AS e(place, machine, from_state, to_state, status)
    ORDER BY e.place;
    RETURN true;
END $$;

-- take_authorised: a gateway's event that says what was to be expected: the money that a checkout
-- has asked for is authorised.
--   p_payload .. p_version  the event as orders.webhook_intake keeps it
--   p_operation_id, p_order_id, p_amount_minor, p_currency  what the event says it is about
--   p_code                  what the gateway said besides, or null
-- Returns 'taken' or 'stale' (both kept, and the order is settled) or 'repeated'; null when anything
-- does not fit or is not plain: then nothing was changed, and webhook_intake.take decides.
CREATE OR REPLACE FUNCTION take_authorised(
    p_gateway text, p_event_id text, p_type text, p_payload jsonb, p_reference text,
    p_version bigint, p_operation_id text, p_order_id text, p_amount_minor bigint,
    p_currency text, p_code text
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_intake text;
    v_status text;
BEGIN
    SELECT status INTO v_status FROM payment_operations
    WHERE id = p_operation_id AND kind = 'authorise' AND gateway = p_gateway
      AND order_id = p_order_id AND amount_minor = p_amount_minor AND currency = p_currency
      AND status IN ('pending', 'succeeded');
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT CASE WHEN p_version < max(w.version) THEN 'stale' ELSE 'taken' END INTO v_intake
    FROM payment_webhooks w
    WHERE w.gateway = p_gateway AND w.reference = p_reference AND w.outcome <> 'rejected';
    BEGIN
        INSERT INTO payment_webhooks (gateway, event_id, type, payload, received_at, reference,
                                      version, operation_id, order_id, outcome)
        VALUES (p_gateway, p_event_id, p_type, p_payload, darkstore_now(), p_reference,
                p_version, p_operation_id, p_order_id, v_intake)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN 'repeated';
        END IF;
        IF v_status = 'pending' AND NOT settle_authorised(p_operation_id, p_reference, p_code) THEN
            RAISE EXCEPTION 'not plain' USING ERRCODE = 'DS001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'DS001' THEN
        RETURN NULL;
    END;
    RETURN v_intake;
END $$;
