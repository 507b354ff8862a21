-- What the relay makes of the moves of orders: a batch of them in one call each.
--
-- The planner takes a JSON array for a hundred rows; see checkout_batch.

-- queue_for_picking: confirmed orders join the pick queues of their stores, which hear of it.
--   p            [{order_id, pick_task_id}], in the order of their events
--   p_handover_s packed so many seconds before the rider would have to leave
-- Doing it twice does nothing, nor does doing it too early: a scheduled order waits for its time.
-- Raises lock_not_available rather than wait for an order's row: whoever holds it may wait for
-- the streams that the caller has locked.
CREATE OR REPLACE FUNCTION queue_for_picking(p jsonb, p_handover_s float8) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now timestamptz := darkstore_now();
    v_streams text[];
    v_tasks jsonb[];
BEGIN
    PERFORM 1 FROM orders o
    WHERE o.id IN (SELECT a.order_id FROM jsonb_to_recordset(p) AS a(order_id text))
    ORDER BY o.id FOR UPDATE NOWAIT;
    WITH due AS MATERIALIZED (
        SELECT a.n, a.pick_task_id, o.id AS order_id, o.store_id,
               o.promised_low_at - make_interval(secs => o.travel_s + p_handover_s) AS due_at
        FROM ROWS FROM (jsonb_to_recordset(p) AS (order_id text, pick_task_id text))
             WITH ORDINALITY AS a(order_id, pick_task_id, n)
        JOIN orders o ON o.id = a.order_id
        WHERE o.status = 'confirmed' AND (o.pick_from IS NULL OR o.pick_from <= v_now)
    ), created AS MATERIALIZED (
        INSERT INTO pick_tasks (id, order_id, store_id, status, due_at, created_at)
        SELECT pick_task_id, order_id, store_id, 'queued', due_at, v_now FROM due ORDER BY n
        ON CONFLICT (order_id) DO NOTHING
        RETURNING id, order_id, store_id, due_at
    ), line AS MATERIALIZED (
        SELECT c.id AS pick_task_id, c.order_id, l.line_id, l.n, l.sku_id, l.name, l.quantity,
               s.bin, p.temperature, p.barcode, b.walk_order
        FROM created c
        JOIN order_lines l ON l.order_id = c.order_id
        JOIN stock s ON s.store_id = c.store_id AND s.sku_id = l.sku_id
        JOIN products p ON p.sku_id = l.sku_id
        LEFT JOIN bins b ON b.store_id = c.store_id AND b.code = s.bin
    ), listed AS (
        INSERT INTO pick_task_lines
            (pick_task_id, line_id, n, sku_id, name, quantity, bin, temperature, barcode)
        SELECT pick_task_id, line_id, n, sku_id, name, quantity, bin, temperature, barcode
        FROM line
    ), task AS (
        -- As sql/pick_tasks.sql of the stores shows a task on which nothing was done yet.
        SELECT d.n, 'store:' || c.store_id AS stream, jsonb_build_object(
            'id', c.id, 'order_id', c.order_id, 'store_id', c.store_id, 'status', 'queued',
            'due_at', to_char(c.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'picker_id', NULL, 'bags', NULL, 'shelf', NULL, 'version', 1,
            'lines', (
                SELECT jsonb_agg(jsonb_build_object(
                    'line_id', l.line_id, 'sku_id', l.sku_id, 'name', l.name,
                    'quantity', l.quantity, 'picked', 0, 'missing', 0, 'bin', l.bin,
                    'temperature', l.temperature, 'barcode', l.barcode,
                    'waiting', false, 'substitutes', '[]'::jsonb)
                    ORDER BY array_position(ARRAY['ambient', 'chilled', 'frozen'], l.temperature),
                             l.walk_order, l.n)
                FROM line l WHERE l.pick_task_id = c.id)) AS data
        FROM created c JOIN due d ON d.pick_task_id = c.id
    )
    SELECT array_agg(stream ORDER BY n), array_agg(data ORDER BY n) INTO v_streams, v_tasks
    FROM task;
    IF v_streams IS NOT NULL THEN
        PERFORM outbox_append_all(v_streams, 'pick_task.changed', v_tasks);
    END IF;
END $$;

-- tell_cities: the city ops of each order see that it has changed.
--   p  [{n, order_id, topics, data}]: data is what the event itself says of the order's states,
--      topics are the webhook subscriptions that ask for it
-- Returns n and the endpoints of those whose event an active webhook endpoint wants.
-- Raises DS404 when an order does not exist.
CREATE OR REPLACE FUNCTION tell_cities(p jsonb) RETURNS TABLE (n integer, endpoint_ids text[])
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_streams text[];
    v_data jsonb[];
BEGIN
    SELECT array_agg('city:' || o.city_id ORDER BY a.n),
           array_agg(a.data || jsonb_build_object(
               'order_id', o.id, 'store_id', o.store_id, 'rider_id', o.rider_id,
               'promised_at', jsonb_build_object(
                   'low', to_char(o.promised_low_at AT TIME ZONE 'UTC',
                                  'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                   'high', to_char(o.promised_high_at AT TIME ZONE 'UTC',
                                   'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) ORDER BY a.n)
    INTO v_streams, v_data
    FROM jsonb_to_recordset(p) AS a(n integer, order_id text, data jsonb)
    JOIN orders o ON o.id = a.order_id;
    IF coalesce(cardinality(v_streams), 0) < jsonb_array_length(p) THEN
        RAISE EXCEPTION 'an event of an order that does not exist' USING ERRCODE = 'DS404';
    END IF;
    IF EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.active) THEN
        RETURN QUERY
        SELECT a.n, w.ids
        FROM jsonb_to_recordset(p) AS a(n integer, order_id text, topics jsonb)
        JOIN orders o ON o.id = a.order_id
        CROSS JOIN LATERAL (
            SELECT array_agg(e.id) AS ids FROM webhook_endpoints e
            WHERE e.active AND (e.city_id IS NULL OR e.city_id = o.city_id)
              AND e.events && ARRAY(SELECT jsonb_array_elements_text(a.topics))) w
        WHERE w.ids IS NOT NULL ORDER BY a.n;
    END IF;
    PERFORM outbox_append_all(v_streams, 'order.changed', v_data);
END $$;
