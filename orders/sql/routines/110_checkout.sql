-- checkout_batch: the checkouts that wait at one moment, in one transaction, each with an outcome
-- of its own: idempotency key, stock, reservation, order, lines, payment attempt and event.
--   p  [{n, actor, key, body_hash (hex), quote_id, order_id, operation_id, method, gateways,
--        token, tokens, shared_tokens (see payment_route), substitution, tip_minor (null: as quoted), delivery_code, tracking_token, hold_s,
--        recover_after_s, use_wallet, open_max (null: no limit), accepted_at (null: now)}]
--       n is the order of arrival, which decides who gets the last units.
--       method 'wallet' pays all from the wallet or nothing; with use_wallet the wallet pays what it
--       can and the gateway the rest.  Where the wallet pays all, the gateway is 'wallet'.
--       A checkout that had to wait was accepted_at while its quote was still good.
--       No actor may stand in one batch twice.
-- Returns a row for each n:
--   outcome   'placed', 'replayed', 'key_reused', 'stock_short', 'quote_unknown', 'quote_expired',
--             'quote_used', 'store_paused', 'too_many_open_orders', 'token_unusable', 'slot_full',
--             'wallet_short'
--   order_id  the order, when there is one
--   status, answer   the stored answer of a replay; null while the first request still runs
--   short     [{sku_id, requested, available}] for 'stock_short',
--             {total_minor, free_minor, currency} for 'wallet_short'
-- A member that is refused leaves the database as it was, its key included, and hurts no other.
--
-- Two batches, and a batch and any single path, lock in the same order and so never wait in a
-- circle: keys, customers, quotes, slots, wallets, stock (by store and sku), each sorted.  What is
-- shared most, stock, is locked last and written in one statement: for many orders of one product
-- that is one new row version instead of one for each.
--
-- A member that is alone is tried as checkout_plain first.
--
-- The planner knows nothing of how few rows a JSON array holds: left alone it reads the whole
-- stock table to find five products (0.9 of 2.2 ms), hence no scans of whole tables here.
CREATE OR REPLACE FUNCTION checkout_batch(p jsonb)
RETURNS TABLE (n integer, outcome text, order_id text, status smallint, answer bytea, short jsonb)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_fresh text[];                  -- order ids whose key nobody has used before
    v_quotes quotes[];
    v_refused jsonb := '{}';         -- {order id: {outcome, short}}
    v_routes jsonb;                  -- {order id: the gateways that may be asked}
    v_paid jsonb := '{}';            -- {order id: minor units that the wallet pays}
    v_special boolean;
    v_scarce boolean;
    v_left jsonb;                    -- {store and sku: units that can still be sold}
    v_short jsonb;
    v_why text;
    v_wallet bigint;
    v_streams text[];
    m record;
BEGIN
    IF jsonb_array_length(p) = 1 AND checkout_plain(p->0) THEN
        n := p->0->>'n';
        outcome := 'placed';
        order_id := p->0->>'order_id';
        RETURN NEXT;
        RETURN;
    END IF;
    v_now := darkstore_now();
    WITH fresh AS (
        INSERT INTO idempotency_keys (actor, key, body_hash, created_at, order_id)
        SELECT a.actor, a.key, decode(a.body_hash, 'hex'), v_now, a.order_id
        FROM jsonb_to_recordset(p) AS a(actor text, key text, body_hash text, order_id text)
        ORDER BY a.actor COLLATE "C", a.key COLLATE "C"
        ON CONFLICT (actor, key) DO NOTHING
        RETURNING order_id
    )
    SELECT coalesce(array_agg(order_id), '{}') INTO v_fresh FROM fresh;
    IF cardinality(v_fresh) < jsonb_array_length(p) THEN
        RETURN QUERY
        SELECT a.n, CASE WHEN k.body_hash = decode(a.body_hash, 'hex') THEN 'replayed'
                         ELSE 'key_reused' END,
               k.order_id, k.status, k.answer, NULL::jsonb
        FROM jsonb_to_recordset(p)
             AS a(n integer, actor text, key text, body_hash text, order_id text)
        JOIN idempotency_keys k ON k.actor = a.actor AND k.key = a.key
        WHERE a.order_id <> ALL (v_fresh);
        IF v_fresh = '{}' THEN
            RETURN;
        END IF;
    END IF;

    -- Two checkouts of one customer count their open orders one after the other.
    PERFORM pg_advisory_xact_lock(c.lock) FROM (
        SELECT hashtextextended(a.actor, 8) AS lock
        FROM jsonb_to_recordset(p) AS a(actor text, order_id text, open_max integer)
        WHERE a.order_id = ANY (v_fresh) AND a.open_max IS NOT NULL
        ORDER BY 1
    ) c;
    SELECT array_agg(locked.q) INTO v_quotes FROM (
        SELECT q FROM quotes q
        WHERE q.id IN (SELECT a.quote_id FROM jsonb_to_recordset(p) AS a(quote_id text))
        ORDER BY q.id FOR UPDATE
    ) locked;

    SELECT coalesce(jsonb_object_agg(a.order_id, jsonb_build_object('outcome', r.why))
                    FILTER (WHERE r.why IS NOT NULL), '{}'),
           coalesce(jsonb_object_agg(a.order_id, g.route), '{}'),
           bool_or(a.method = 'wallet' OR a.use_wallet OR q.slot_start IS NOT NULL)
    INTO v_refused, v_routes, v_special
    FROM jsonb_to_recordset(p) AS a(
        actor text, quote_id text, order_id text, method text, use_wallet boolean,
        token text, tokens jsonb, shared_tokens boolean, gateways jsonb, open_max integer, accepted_at timestamptz)
    LEFT JOIN unnest(v_quotes) AS q ON q.id = a.quote_id AND q.user_id = a.actor
    LEFT JOIN stores s ON s.id = q.store_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.method = 'wallet' OR q.id IS NULL THEN '[]'::jsonb ELSE payment_route(
            q.city_id, a.method, jsonb_build_object(
                'gateways', a.gateways, 'token', a.token, 'tokens', a.tokens,
                'shared_tokens', a.shared_tokens)) END AS route
        OFFSET 0  -- else it is worked out at each place that names it
    ) g
    CROSS JOIN LATERAL (SELECT CASE
        WHEN q.id IS NULL THEN 'quote_unknown'
        WHEN q.order_id IS NOT NULL THEN 'quote_used'
        WHEN q.expires_at <= coalesce(a.accepted_at, v_now) THEN 'quote_expired'
        WHEN NOT s.open THEN 'store_paused'
        WHEN a.open_max <= open_orders(a.actor) THEN 'too_many_open_orders'
        WHEN g.route = '[]' AND a.method <> 'wallet' AND a.use_wallet IS NOT TRUE
            THEN 'token_unusable'
        END AS why) r
    WHERE a.order_id = ANY (v_fresh);

    IF v_special THEN
        PERFORM slot_row(w.store_id, w.slot_start) FROM (
            SELECT DISTINCT q.store_id, q.slot_start FROM unnest(v_quotes) AS q
            WHERE q.slot_start IS NOT NULL ORDER BY 1, 2
        ) w;
        PERFORM 1 FROM delivery_slots d
        WHERE (d.store_id, d.starts_at) IN (
            SELECT q.store_id, q.slot_start FROM unnest(v_quotes) AS q)
        ORDER BY d.store_id, d.starts_at FOR UPDATE;
        PERFORM 1 FROM wallets w
        WHERE w.user_id IN (
            SELECT a.actor FROM jsonb_to_recordset(p)
                AS a(actor text, method text, use_wallet boolean)
            WHERE a.method = 'wallet' OR a.use_wallet)
        ORDER BY w.user_id, w.currency FOR UPDATE;
    END IF;
    WITH needed AS MATERIALIZED (
        SELECT q.store_id, l.sku_id, sum(l.quantity) AS units
        FROM jsonb_to_recordset(p) AS a(actor text, quote_id text, order_id text)
        JOIN unnest(v_quotes) AS q ON q.id = a.quote_id AND q.user_id = a.actor
        CROSS JOIN LATERAL jsonb_to_recordset(q.lines) AS l(sku_id text, quantity integer)
        WHERE a.order_id = ANY (v_fresh) AND NOT v_refused ? a.order_id
        GROUP BY 1, 2
    ), locked AS MATERIALIZED (
        SELECT s.store_id, s.sku_id, s.available
        FROM needed w JOIN stock s ON s.store_id = w.store_id AND s.sku_id = w.sku_id
        ORDER BY s.store_id, s.sku_id FOR UPDATE OF s
    )
    SELECT bool_or(coalesce(s.available, 0) < w.units),
           jsonb_object_agg(w.store_id || ' ' || w.sku_id, greatest(0, coalesce(s.available, 0)))
    INTO v_scarce, v_left
    FROM needed w LEFT JOIN locked s ON s.store_id = w.store_id AND s.sku_id = w.sku_id;

    IF v_scarce OR v_special THEN
        -- Somebody may go short: one after another, as they came.
        FOR m IN
            SELECT a.order_id, a.method, a.use_wallet, q.store_id, q.slot_start, q.user_id,
                   q.currency, q.lines,
                   q.total_minor - q.tip_minor + coalesce(a.tip_minor, q.tip_minor) AS total_minor
            FROM jsonb_to_recordset(p) AS a(
                n integer, actor text, quote_id text, order_id text, method text,
                use_wallet boolean, tip_minor bigint)
            JOIN unnest(v_quotes) AS q ON q.id = a.quote_id AND q.user_id = a.actor
            WHERE a.order_id = ANY (v_fresh) AND NOT v_refused ? a.order_id
            ORDER BY a.n
        LOOP
            v_why := NULL;
            SELECT jsonb_agg(jsonb_build_object(
                'sku_id', l.sku_id, 'requested', l.quantity,
                'available', v_left->(m.store_id || ' ' || l.sku_id)) ORDER BY l.sku_id)
            INTO v_short
            FROM jsonb_to_recordset(m.lines) AS l(sku_id text, quantity integer)
            WHERE (v_left->>(m.store_id || ' ' || l.sku_id))::integer < l.quantity;
            IF v_short IS NOT NULL THEN
                v_why := 'stock_short';
            ELSIF m.slot_start IS NOT NULL OR m.method = 'wallet' OR m.use_wallet THEN
                BEGIN
                    IF m.slot_start IS NOT NULL AND NOT take_slot(m.store_id, m.slot_start) THEN
                        RAISE EXCEPTION 'slot_full' USING ERRCODE = 'DS001';
                    END IF;
                    IF m.method = 'wallet' OR m.use_wallet THEN
                        v_wallet := wallet_hold(m.user_id, m.currency, m.order_id, m.total_minor);
                        IF m.method = 'wallet' AND v_wallet < m.total_minor THEN
                            v_short := jsonb_build_object(
                                'total_minor', m.total_minor, 'free_minor', v_wallet,
                                'currency', m.currency);
                            RAISE EXCEPTION 'wallet_short' USING ERRCODE = 'DS001';
                        END IF;
                        IF v_wallet < m.total_minor AND v_routes->m.order_id = '[]' THEN
                            RAISE EXCEPTION 'token_unusable' USING ERRCODE = 'DS001';
                        END IF;
                        v_paid := v_paid || jsonb_build_object(m.order_id, v_wallet);
                    END IF;
                EXCEPTION WHEN SQLSTATE 'DS001' THEN
                    v_why := SQLERRM;
                END;
            END IF;
            IF v_why IS NULL THEN
                SELECT v_left || jsonb_object_agg(
                    m.store_id || ' ' || l.sku_id,
                    (v_left->>(m.store_id || ' ' || l.sku_id))::integer - l.quantity)
                INTO v_left
                FROM jsonb_to_recordset(m.lines) AS l(sku_id text, quantity integer);
            ELSE
                v_refused := v_refused || jsonb_build_object(
                    m.order_id, jsonb_build_object('outcome', v_why, 'short', v_short));
            END IF;
        END LOOP;
    END IF;

    WITH won AS MATERIALIZED (
        SELECT a.n, a.order_id, a.operation_id, a.substitution, a.delivery_code, a.tracking_token, a.hold_s,
               a.recover_after_s, q.*, t.*,
               CASE WHEN t.wallet_minor = t.due_minor THEN 'wallet' ELSE a.method END AS method,
               CASE WHEN t.wallet_minor = t.due_minor THEN 'wallet'
                    ELSE v_routes->a.order_id->0->>'gateway' END AS gateway,
               CASE WHEN t.wallet_minor < t.due_minor
                    THEN v_routes->a.order_id END AS route
        FROM jsonb_to_recordset(p) AS a(
            n integer, actor text, quote_id text, order_id text, operation_id text, method text,
            substitution text, tip_minor bigint, delivery_code text,
            tracking_token text, hold_s float8, recover_after_s float8)
        JOIN (SELECT id AS quote_id, user_id, store_id, city_id, lines, items_total_minor,
                     tax_minor, delivery_fee_minor, small_order_fee_minor, discount_minor,
                     tip_minor AS quoted_tip_minor, total_minor AS quoted_total_minor, currency,
                     lat, lon, address, travel_s, promise_low_s, promise_high_s, slot_start,
                     pick_from
              FROM unnest(v_quotes)) AS q ON q.quote_id = a.quote_id AND q.user_id = a.actor
        CROSS JOIN LATERAL (
            SELECT coalesce(a.tip_minor, q.quoted_tip_minor) AS tip_minor,
                   q.quoted_total_minor - q.quoted_tip_minor
                       + coalesce(a.tip_minor, q.quoted_tip_minor) AS due_minor,
                   coalesce((v_paid->>a.order_id)::bigint, 0) AS wallet_minor) t
        WHERE a.order_id = ANY (v_fresh) AND NOT v_refused ? a.order_id
    ), line AS MATERIALIZED (
        SELECT w.order_id, w.store_id, w.user_id, l.*
        FROM won w CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(w.lines) AS (
            sku_id text, name text, quantity integer, unit_price_minor bigint,
            line_total_minor bigint, tax_rate_bp integer, tax_minor bigint, discount_minor bigint,
            weight_g integer)) WITH ORDINALITY AS l(
            sku_id, name, quantity, unit_price_minor, line_total_minor, tax_rate_bp, tax_minor,
            discount_minor, weight_g, line_n)
    ), taken AS (
        UPDATE stock s SET reserved = s.reserved + t.units, version = s.version + 1
        FROM (SELECT store_id, sku_id, sum(quantity)::integer AS units
              FROM line GROUP BY 1, 2) t
        WHERE s.store_id = t.store_id AND s.sku_id = t.sku_id
    ), moved AS (
        INSERT INTO stock_movements
            (store_id, sku_id, kind, on_hand_delta, reserved_delta, order_id, actor, at)
        SELECT store_id, sku_id, 'reservation', 0, quantity, order_id, user_id, v_now FROM line
    ), ordered AS (
        INSERT INTO orders (
            id, user_id, store_id, city_id, quote_id, status, delivery_status, payment_status,
            items_total_minor, tax_minor, delivery_fee_minor, small_order_fee_minor,
            discount_minor, tip_minor, total_minor, wallet_minor, currency, payment_method, gateway,
            substitution, lat, lon, address, travel_s, delivery_code, tracking_token, placed_at,
            promised_low_at, promised_high_at, slot_start, pick_from, slot_held, history_seq)
        SELECT order_id, user_id, store_id, city_id, quote_id, 'placed', 'unassigned', 'pending',
               items_total_minor, tax_minor, delivery_fee_minor, small_order_fee_minor,
               discount_minor, tip_minor, due_minor, wallet_minor, currency, method, gateway,
               substitution, lat, lon, address, travel_s, delivery_code, tracking_token, v_now,
               coalesce(slot_start, v_now + make_interval(secs => promise_low_s)),
               coalesce(slot_start + interval '15 minutes',
                        v_now + make_interval(secs => promise_high_s)),
               slot_start, pick_from, slot_start IS NOT NULL, 3
        FROM won ORDER BY n
    ), told AS (
        INSERT INTO order_history (order_id, seq, machine, from_state, to_state, at, actor)
        SELECT w.order_id, h.seq, h.machine, NULL, h.state, v_now, w.user_id
        FROM won w CROSS JOIN (VALUES
            (1, 'order', 'placed'), (2, 'delivery', 'unassigned'), (3, 'payment', 'pending')
        ) AS h(seq, machine, state)
    ), listed AS (
        INSERT INTO order_lines (
            order_id, line_id, n, sku_id, name, quantity, unit_price_minor, line_total_minor,
            tax_rate_bp, tax_minor, discount_minor, weight_g)
        SELECT order_id, 'lin_' || line_n, line_n, sku_id, name, quantity, unit_price_minor,
               line_total_minor, tax_rate_bp, tax_minor, discount_minor, weight_g
        FROM line
    ), held AS (
        INSERT INTO reservations (order_id, user_id, store_id, status, expires_at)
        SELECT order_id, user_id, store_id, 'held', v_now + make_interval(secs => hold_s)
        FROM won
    ), held_lines AS (
        INSERT INTO reservation_lines (order_id, sku_id, quantity, open_quantity)
        SELECT order_id, sku_id, quantity, quantity FROM line
    ), asked AS (
        INSERT INTO payment_operations (
            id, order_id, kind, gateway, method, amount_minor, currency, token, route,
            status, attempts, next_attempt_at, created_at)
        SELECT operation_id, order_id, 'authorise', gateway, method,
               CASE WHEN gateway = 'wallet' THEN due_minor ELSE due_minor - wallet_minor END,
               currency, route->0->>'token', route, 'pending',
               -- Whoever placed it asks at once; if it never writes an answer down, that is known.
               1,
               v_now + make_interval(secs => recover_after_s), v_now
        FROM won
    ), used AS (
        UPDATE quotes SET order_id = won.order_id FROM won WHERE quotes.id = won.quote_id
    )
    SELECT array_agg('order:' || order_id ORDER BY n) INTO v_streams FROM won;
    IF v_streams IS NOT NULL THEN
        PERFORM outbox_open(v_streams, 'order.status', jsonb_build_object(
            'machine', 'order', 'from', NULL, 'to', 'placed', 'reason', NULL,
            'status', 'placed', 'delivery_status', 'unassigned', 'payment_status', 'pending',
            'version', 1));
    END IF;
    IF v_refused <> '{}' THEN
        -- A refusal is not kept: the key may be used again.
        DELETE FROM idempotency_keys k
        USING jsonb_to_recordset(p) AS a(actor text, key text, order_id text)
        WHERE k.actor = a.actor AND k.key = a.key AND v_refused ? a.order_id;
    END IF;
    RETURN QUERY
    SELECT a.n, coalesce(v_refused->a.order_id->>'outcome', 'placed'),
           CASE WHEN NOT v_refused ? a.order_id THEN a.order_id END, NULL::smallint, NULL::bytea,
           v_refused->a.order_id->'short'
    FROM jsonb_to_recordset(p) AS a(n integer, order_id text)
    WHERE a.order_id = ANY (v_fresh);
END $$;

-- checkout: a batch of one (see checkout_batch), for servers of before there were batches.
CREATE OR REPLACE FUNCTION checkout(p jsonb)
RETURNS TABLE (outcome text, order_id text, status smallint, answer bytea, short jsonb)
LANGUAGE sql AS $$
    SELECT outcome, order_id, status, answer, short
    FROM checkout_batch(jsonb_build_array(p || '{"n": 1}'))
$$;
