-- open_orders: how many orders of a customer are not yet paid: on hold for a gateway's answer, or to
-- be paid at the door.
CREATE OR REPLACE FUNCTION open_orders(p_user_id text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*) FROM reservations h
            WHERE h.user_id = p_user_id AND h.status IN ('held', 'firm')
              AND (h.status = 'held' OR EXISTS (
                  SELECT 1 FROM orders o WHERE o.id = h.order_id AND o.gateway = 'cash')));
END $$;

-- checkout_plain: the checkout that nearly every one is, alone in its transaction: its key is new,
-- its quote is good, nothing is short, and neither a wallet nor a slot is involved.
--   p  the one member of a checkout_batch
-- Returns true when the order was placed; false when anything is out of the ordinary: then nothing
-- was changed, and checkout_batch finds out what it is.
-- Writes the rows that checkout_batch writes, from variables: set by set a single order costs three
-- times as much, nearly all of it for starting statements (docs/decisions/0031).  A test compares
-- the rows of both.  Locks in the same order as checkout_batch.
CREATE OR REPLACE FUNCTION checkout_plain(p jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := darkstore_now();
    a record;
    q quotes%ROWTYPE;
    v_route jsonb;
    v_gateway text;
    v_tip bigint;
    v_total bigint;
    v_sold boolean;
    v_stream text;
BEGIN
    SELECT * INTO a FROM jsonb_to_record(p) AS a(
        actor text, key text, body_hash text, quote_id text, order_id text, operation_id text,
        method text, use_wallet boolean, substitution text, tip_minor bigint, delivery_code text,
        tracking_token text, hold_s float8, recover_after_s float8, open_max integer,
        accepted_at timestamptz);
    IF a.method = 'wallet' OR a.use_wallet THEN
        RETURN false;
    END IF;
    INSERT INTO idempotency_keys (actor, key, body_hash, created_at, order_id)
    VALUES (a.actor, a.key, decode(a.body_hash, 'hex'), v_now, a.order_id)
    ON CONFLICT (actor, key) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF a.open_max IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(a.actor, 8));
    END IF;
    UPDATE quotes SET order_id = a.order_id
    WHERE id = a.quote_id AND user_id = a.actor AND order_id IS NULL
    RETURNING * INTO q;
    IF q.slot_start IS NULL AND q.expires_at > coalesce(a.accepted_at, v_now) THEN
        SELECT payment_route(q.city_id, a.method, p) INTO v_route FROM stores s
        WHERE s.id = q.store_id AND s.open
          AND (a.open_max IS NULL OR a.open_max > open_orders(a.actor));
        v_gateway := v_route->0->>'gateway';
    END IF;
    IF v_gateway IS NOT NULL THEN
        WITH locked AS MATERIALIZED (
            SELECT s.sku_id, l.quantity, s.available >= l.quantity AS enough
            FROM jsonb_to_recordset(q.lines) AS l(sku_id text, quantity integer)
            JOIN stock s ON s.store_id = q.store_id AND s.sku_id = l.sku_id
            ORDER BY s.sku_id FOR UPDATE OF s
        )
        UPDATE stock s SET reserved = s.reserved + l.quantity, version = s.version + 1
        FROM locked l
        WHERE s.store_id = q.store_id AND s.sku_id = l.sku_id
          AND (SELECT count(*) FILTER (WHERE enough) FROM locked) = jsonb_array_length(q.lines);
        v_sold := FOUND;
    END IF;
    IF v_sold IS NOT TRUE THEN
        UPDATE quotes SET order_id = NULL WHERE id = q.id;
        DELETE FROM idempotency_keys WHERE actor = a.actor AND key = a.key;
        RETURN false;
    END IF;

    v_tip := coalesce(a.tip_minor, q.tip_minor);
    v_total := q.total_minor - q.tip_minor + v_tip;
    INSERT INTO orders (
        id, user_id, store_id, city_id, quote_id, status, delivery_status, payment_status,
        items_total_minor, tax_minor, delivery_fee_minor, small_order_fee_minor, discount_minor,
        tip_minor, total_minor, currency, payment_method, gateway, substitution, lat, lon, address,
        travel_s, delivery_code, tracking_token, placed_at, promised_low_at, promised_high_at,
        pick_from, history_seq)
    VALUES (
        a.order_id, a.actor, q.store_id, q.city_id, q.id, 'placed', 'unassigned', 'pending',
        q.items_total_minor, q.tax_minor, q.delivery_fee_minor, q.small_order_fee_minor,
        q.discount_minor, v_tip, v_total, q.currency, a.method, v_gateway, a.substitution, q.lat,
        q.lon, q.address, q.travel_s, a.delivery_code, a.tracking_token, v_now,
        v_now + make_interval(secs => q.promise_low_s),
        v_now + make_interval(secs => q.promise_high_s), q.pick_from, 3);
    INSERT INTO order_history (order_id, seq, machine, to_state, at, actor) VALUES
        (a.order_id, 1, 'order', 'placed', v_now, a.actor),
        (a.order_id, 2, 'delivery', 'unassigned', v_now, a.actor),
        (a.order_id, 3, 'payment', 'pending', v_now, a.actor);
    INSERT INTO order_lines (
        order_id, line_id, n, sku_id, name, quantity, unit_price_minor, line_total_minor,
        tax_rate_bp, tax_minor, discount_minor, weight_g)
    SELECT a.order_id, 'lin_' || line_n, line_n, sku_id, name, quantity, unit_price_minor,
           line_total_minor, tax_rate_bp, tax_minor, discount_minor, weight_g
    FROM ROWS FROM (jsonb_to_recordset(q.lines) AS (
        sku_id text, name text, quantity integer, unit_price_minor bigint, line_total_minor bigint,
        tax_rate_bp integer, tax_minor bigint, discount_minor bigint, weight_g integer))
        WITH ORDINALITY AS l(
        sku_id, name, quantity, unit_price_minor, line_total_minor, tax_rate_bp, tax_minor,
        discount_minor, weight_g, line_n);
    INSERT INTO reservation_lines (order_id, sku_id, quantity, open_quantity)
    SELECT a.order_id, sku_id, quantity, quantity
    FROM jsonb_to_recordset(q.lines) AS l(sku_id text, quantity integer);
    INSERT INTO stock_movements
        (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
    SELECT q.store_id, sku_id, 'reservation', 0, quantity, a.order_id, a.actor, v_now
    FROM jsonb_to_recordset(q.lines) AS l(sku_id text, quantity integer);
    INSERT INTO reservations (order_id, user_id, store_id, status, expires_at)
    VALUES (a.order_id, a.actor, q.store_id, 'held', v_now + make_interval(secs => a.hold_s));
    INSERT INTO payment_operations (
        id, order_id, kind, gateway, method, amount_minor, currency, token, route, status,
        attempts, next_attempt_at, created_at)
    VALUES (
        a.operation_id, a.order_id, 'authorise', v_gateway, a.method, v_total, q.currency,
        v_route->0->>'token', v_route, 'pending', 1,
        v_now + make_interval(secs => a.recover_after_s), v_now);
    v_stream := 'order:' || a.order_id;
    INSERT INTO stream_heads (stream, seq) VALUES (v_stream, 1);
    INSERT INTO outbox (stream, seq, partition, type, data, at)
    VALUES (v_stream, 1, abs(hashtext(v_stream)::bigint) % 16, 'order.status',
            '{"machine": "order", "from": null, "to": "placed", "reason": null,
              "status": "placed", "delivery_status": "unassigned", "payment_status": "pending",
              "version": 1}', v_now);
    RETURN true;
END $$;
