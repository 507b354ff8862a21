-- checkout: idempotency key, stock, reservation, order, lines, payment attempt and event, at once.
--   p  {actor, key, body_hash (hex), quote_id, order_id, operation_id, method, gateway, token,
--       substitution, tip_minor (null: as quoted), delivery_code, tracking_token, hold_s,
--       recover_after_s}
-- Returns one row:
--   outcome   'placed', 'replayed', 'stock_short', 'quote_unknown', 'quote_expired',
--             'quote_used', 'store_paused' or 'key_reused'
--   order_id  the order, when there is one
--   status, answer   the stored answer of a replay; null while the first request still runs
--   short     [{sku_id, requested, available}] for 'stock_short'
-- Stock rows are locked in the order of sku_id, so that two checkouts never wait for each other.
-- Every outcome but 'placed' leaves the database as it was.
CREATE OR REPLACE FUNCTION checkout(p jsonb)
RETURNS TABLE (outcome text, order_id text, status smallint, answer bytea, short jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    q quotes%ROWTYPE;
    k idempotency_keys%ROWTYPE;
    v_now timestamptz := darkstore_now();
    v_order_id text := p->>'order_id';
    v_tip bigint;
    v_total bigint;
    v_taken text[];
    v_short jsonb;
BEGIN
    INSERT INTO idempotency_keys (actor, key, body_hash, created_at, order_id)
    VALUES (p->>'actor', p->>'key', decode(p->>'body_hash', 'hex'), v_now, v_order_id)
    ON CONFLICT (actor, key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO k FROM idempotency_keys
        WHERE actor = p->>'actor' AND key = p->>'key';
        IF k.body_hash <> decode(p->>'body_hash', 'hex') THEN
            RETURN QUERY SELECT 'key_reused', NULL::text, NULL::smallint, NULL::bytea, NULL::jsonb;
        ELSE
            RETURN QUERY SELECT 'replayed', k.order_id, k.status, k.answer, NULL::jsonb;
        END IF;
        RETURN;
    END IF;

    <<attempt>>
    BEGIN
        SELECT * INTO q FROM quotes
        WHERE id = p->>'quote_id' AND user_id = p->>'actor' FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'quote_unknown' USING ERRCODE = 'DS001';
        ELSIF q.order_id IS NOT NULL THEN
            RAISE EXCEPTION 'quote_used' USING ERRCODE = 'DS001';
        ELSIF q.expires_at <= v_now THEN
            RAISE EXCEPTION 'quote_expired' USING ERRCODE = 'DS001';
        END IF;
        PERFORM 1 FROM stores WHERE id = q.store_id AND open;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'store_paused' USING ERRCODE = 'DS001';
        END IF;

        PERFORM 1 FROM stock s
        JOIN jsonb_array_elements(q.lines) AS l ON s.sku_id = l->>'sku_id'
        WHERE s.store_id = q.store_id
        ORDER BY s.sku_id COLLATE "C" FOR UPDATE OF s;
        WITH taken AS (
            UPDATE stock s
            SET reserved = s.reserved + (l->>'quantity')::integer, version = s.version + 1
            FROM jsonb_array_elements(q.lines) AS l
            WHERE s.store_id = q.store_id AND s.sku_id = l->>'sku_id'
              AND s.on_hand - s.reserved >= (l->>'quantity')::integer
            RETURNING s.sku_id, (l->>'quantity')::integer AS quantity
        ), moved AS (
            INSERT INTO stock_movements
                (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
            SELECT q.store_id, t.sku_id, 'reservation', 0, t.quantity, v_order_id, p->>'actor',
                   v_now
            FROM taken t
            RETURNING sku_id
        )
        SELECT array_agg(sku_id) INTO v_taken FROM moved;
        IF coalesce(cardinality(v_taken), 0) < jsonb_array_length(q.lines) THEN
            -- Read while the rows are locked: afterwards others may have given units back.
            SELECT jsonb_agg(jsonb_build_object(
                'sku_id', w.sku_id, 'requested', w.quantity,
                'available', coalesce(s.on_hand - s.reserved, 0)) ORDER BY w.sku_id)
            INTO v_short
            FROM (SELECT l->>'sku_id' AS sku_id, (l->>'quantity')::integer AS quantity
                  FROM jsonb_array_elements(q.lines) AS l) w
            LEFT JOIN stock s ON s.store_id = q.store_id AND s.sku_id = w.sku_id
            WHERE w.sku_id <> ALL (coalesce(v_taken, ARRAY[]::text[]));
            RAISE EXCEPTION 'stock_short' USING ERRCODE = 'DS001';
        END IF;

        v_tip := coalesce((p->>'tip_minor')::bigint, q.tip_minor);
        v_total := q.total_minor - q.tip_minor + v_tip;
        INSERT INTO orders (
            id, user_id, store_id, city_id, quote_id, status, delivery_status, payment_status,
            items_total_minor, tax_minor, delivery_fee_minor, small_order_fee_minor,
            discount_minor, tip_minor, total_minor, currency, payment_method, gateway,
            substitution, lat, lon, address, travel_s, delivery_code, tracking_token, placed_at,
            promised_low_at, promised_high_at, history_seq
        ) VALUES (
            v_order_id, q.user_id, q.store_id, q.city_id, q.id, 'placed', 'unassigned', 'pending',
            q.items_total_minor, q.tax_minor, q.delivery_fee_minor, q.small_order_fee_minor,
            q.discount_minor, v_tip, v_total, q.currency, p->>'method', p->>'gateway',
            p->>'substitution', q.lat, q.lon, q.address, q.travel_s, p->>'delivery_code',
            p->>'tracking_token', v_now, v_now + make_interval(secs => q.promise_low_s),
            v_now + make_interval(secs => q.promise_high_s), 3
        );
        INSERT INTO order_history (order_id, seq, machine, from_state, to_state, at, actor)
        VALUES (v_order_id, 1, 'order', NULL, 'placed', v_now, p->>'actor'),
               (v_order_id, 2, 'delivery', NULL, 'unassigned', v_now, p->>'actor'),
               (v_order_id, 3, 'payment', NULL, 'pending', v_now, p->>'actor');
        INSERT INTO order_lines (
            order_id, line_id, n, sku_id, name, quantity, unit_price_minor, line_total_minor,
            tax_rate_bp, tax_minor, discount_minor, weight_g)
        SELECT v_order_id, 'lin_' || l.n, l.n, l.e->>'sku_id', l.e->>'name',
               (l.e->>'quantity')::integer, (l.e->>'unit_price_minor')::bigint,
               (l.e->>'line_total_minor')::bigint, (l.e->>'tax_rate_bp')::integer,
               (l.e->>'tax_minor')::bigint, (l.e->>'discount_minor')::bigint,
               (l.e->>'weight_g')::integer
        FROM jsonb_array_elements(q.lines) WITH ORDINALITY AS l(e, n);
        INSERT INTO reservations (order_id, store_id, status, expires_at)
        VALUES (v_order_id, q.store_id, 'held',
                v_now + make_interval(secs => (p->>'hold_s')::float8));
        INSERT INTO reservation_lines (order_id, sku_id, quantity, open_quantity)
        SELECT v_order_id, l->>'sku_id', (l->>'quantity')::integer, (l->>'quantity')::integer
        FROM jsonb_array_elements(q.lines) AS l;
        INSERT INTO payment_operations (
            id, order_id, kind, gateway, method, amount_minor, currency, token, status,
            next_attempt_at, created_at)
        VALUES (p->>'operation_id', v_order_id, 'authorise', p->>'gateway', p->>'method',
                v_total, q.currency, p->>'token', 'pending',
                v_now + make_interval(secs => (p->>'recover_after_s')::float8), v_now);
        UPDATE quotes SET order_id = v_order_id WHERE id = q.id;
        PERFORM outbox_append('order:' || v_order_id, 'order.status', jsonb_build_object(
            'machine', 'order', 'from', NULL, 'to', 'placed', 'reason', NULL,
            'status', 'placed', 'delivery_status', 'unassigned', 'payment_status', 'pending',
            'version', 1));
        RETURN QUERY SELECT 'placed', v_order_id, NULL::smallint, NULL::bytea, NULL::jsonb;
        RETURN;
    EXCEPTION WHEN SQLSTATE 'DS001' THEN
        -- The inner block is rolled back to its start; the key goes too, so that a retry is free.
        DELETE FROM idempotency_keys WHERE actor = p->>'actor' AND key = p->>'key';
        RETURN QUERY SELECT SQLERRM, NULL::text, NULL::smallint, NULL::bytea,
                            coalesce(v_short, '[]'::jsonb);
        RETURN;
    END;
END $$;
