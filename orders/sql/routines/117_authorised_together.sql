-- What 115 and 116 write for one order, for many in one transaction: the plain answers that wait
-- while others commit.  What is not plain, or held by somebody else at this moment, is left alone
-- and not told of; its caller asks the routine for one.  So nobody waits here for anybody's row.
--
-- The planner takes a parameter array for ten rows or a hundred; see checkout_batch.

-- settle_authorised_together: settle_authorised for many.
--   p_operation_ids, p_references, p_codes  one element each for an authorisation; no id twice
-- Returns the ids of those that stand as authorised, by this call or by one before.
CREATE OR REPLACE FUNCTION settle_authorised_together(
    p_operation_ids text[], p_references text[], p_codes text[]
) RETURNS text[]
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now timestamptz := darkstore_now();
    v_mine text[];
BEGIN
    SELECT array_agg(locked.id) INTO v_mine FROM (
        SELECT o.id FROM payment_operations p JOIN orders o ON o.id = p.order_id
        WHERE p.id = ANY (p_operation_ids) AND o.status = 'placed' AND o.payment_status = 'pending'
        FOR UPDATE OF o SKIP LOCKED
    ) locked;
    IF v_mine IS NOT NULL THEN
        WITH answered AS (
            UPDATE payment_operations p SET
                status = 'succeeded', reference = coalesce(a.reference, p.reference), code = a.code,
                answers = p.answers + 1, token = NULL, route = NULL, settled_at = v_now
            FROM unnest(p_operation_ids, p_references, p_codes) AS a(id, reference, code)
            WHERE p.id = a.id AND p.order_id = ANY (v_mine) AND p.kind = 'authorise'
              AND p.status = 'pending' AND p.attempts = 1 AND p.answers = 0
            RETURNING p.order_id
        ), firm AS (
            UPDATE reservations r SET status = 'firm', expires_at = NULL
            FROM answered a WHERE r.order_id = a.order_id AND r.status = 'held'
        ), moved AS (
            UPDATE orders o SET status = 'confirmed', payment_status = 'authorised',
                                version = o.version + 2, history_seq = o.history_seq + 2
            FROM answered a WHERE o.id = a.order_id
            RETURNING o.id, 'order:' || o.id AS stream, o.version, o.history_seq, o.delivery_status
        ), edge(place, machine, from_state, to_state, status) AS (
            VALUES (-1, 'payment', 'pending', 'authorised', 'placed'),
                   (0, 'order', 'placed', 'confirmed', 'confirmed')
        ), told AS (
            INSERT INTO order_history (order_id, seq, machine, from_state, to_state, at, actor)
            SELECT m.id, m.history_seq + e.place, e.machine, e.from_state, e.to_state, v_now, 'system'
            FROM moved m CROSS JOIN edge e
        ), head AS (
            INSERT INTO stream_heads AS h (stream, seq) SELECT stream, 2 FROM moved ORDER BY stream
            ON CONFLICT (stream) DO UPDATE SET seq = h.seq + 2
            RETURNING h.stream, h.seq
        )
        INSERT INTO outbox (stream, seq, partition, type, data, at)
        SELECT m.stream, h.seq + e.place, abs(hashtext(m.stream)::bigint) % 16, 'order.status',
               jsonb_build_object(
                   'machine', e.machine, 'from', e.from_state, 'to', e.to_state, 'reason', NULL,
                   'status', e.status, 'delivery_status', m.delivery_status,
                   'payment_status', 'authorised', 'version', m.version + e.place), v_now
        FROM moved m JOIN head h ON h.stream = m.stream CROSS JOIN edge e
        ORDER BY m.id, e.place;
    END IF;
    RETURN ARRAY(SELECT p.id FROM payment_operations p
                 WHERE p.id = ANY (p_operation_ids) AND p.status = 'succeeded'
                   AND p.kind = 'authorise');
END $$;

-- confirm_authorised_together: confirm_authorised for many.
--   one element each: what settle_authorised_together takes; the actor and key of the checkout; its
--   order and the order's version in the answer; the answer's body.  p_status is of all answers
-- Returns the answers that stand, by operation.
CREATE OR REPLACE FUNCTION confirm_authorised_together(
    p_operation_ids text[], p_references text[], p_codes text[], p_actors text[], p_keys text[],
    p_order_ids text[], p_versions integer[], p_bodies bytea[], p_status smallint
) RETURNS TABLE (operation_id text, status smallint, answer bytea)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_settled text[] := settle_authorised_together(p_operation_ids, p_references, p_codes);
BEGIN
    RETURN QUERY
    UPDATE idempotency_keys k SET
        status = coalesce(k.status, p_status), answer = coalesce(k.answer, a.body)
    FROM unnest(p_operation_ids, p_actors, p_keys, p_order_ids, p_versions, p_bodies)
             AS a(operation_id, actor, key, order_id, version, body)
    JOIN orders o ON o.id = a.order_id AND o.version = a.version
    WHERE k.actor = a.actor AND k.key = a.key AND a.operation_id = ANY (v_settled)
    RETURNING a.operation_id, k.status, k.answer;
END $$;

-- take_authorised_together: take_authorised for many.
--   p  [{n, gateway, event_id, type, payload, reference, version, operation_id, order_id,
--        amount_minor, currency, code}], no payment (gateway and reference) twice
-- Returns n and the intake of those that fit and are plain.
CREATE OR REPLACE FUNCTION take_authorised_together(p jsonb) RETURNS TABLE (n integer, intake text)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_fit integer[];  -- events that fit their operation
    v_paid text[];    -- operations that stand as authorised, of those
    v_open text[];    -- those that wait for the answer
    v_references text[];
    v_codes text[];
BEGIN
    SELECT array_agg(a.n), coalesce(array_agg(o.id) FILTER (WHERE o.status = 'succeeded'), '{}'),
           array_agg(o.id) FILTER (WHERE o.status = 'pending'),
           array_agg(a.reference) FILTER (WHERE o.status = 'pending'),
           array_agg(a.code) FILTER (WHERE o.status = 'pending')
    INTO v_fit, v_paid, v_open, v_references, v_codes
    FROM jsonb_to_recordset(p) AS a(
        n integer, gateway text, event_id text, reference text, operation_id text, order_id text,
        amount_minor bigint, currency text, code text)
    JOIN payment_operations o ON o.id = a.operation_id
    WHERE o.kind = 'authorise' AND o.gateway = a.gateway AND o.order_id = a.order_id
      AND o.amount_minor = a.amount_minor AND o.currency = a.currency
      -- A repeat moves nothing, and is told one by one.
      AND NOT EXISTS (SELECT FROM payment_webhooks w
                      WHERE w.gateway = a.gateway AND w.event_id = a.event_id);
    IF v_open IS NOT NULL THEN
        v_paid := v_paid || settle_authorised_together(v_open, v_references, v_codes);
    END IF;
    RETURN QUERY
    WITH event AS MATERIALIZED (
        SELECT a.*, CASE WHEN a.version < (
            SELECT max(w.version) FROM payment_webhooks w
            WHERE w.gateway = a.gateway AND w.reference = a.reference AND w.outcome <> 'rejected'
        ) THEN 'stale' ELSE 'taken' END AS intake
        FROM jsonb_to_recordset(p) AS a(
            n integer, gateway text, event_id text, type text, payload jsonb, reference text,
            version bigint, operation_id text, order_id text)
        WHERE a.n = ANY (v_fit) AND a.operation_id = ANY (v_paid)
    ), kept AS (
        INSERT INTO payment_webhooks (gateway, event_id, type, payload, received_at, reference,
                                      version, operation_id, order_id, outcome)
        SELECT gateway, event_id, type, payload, darkstore_now(), reference, version, operation_id,
               order_id, intake
        FROM event ORDER BY gateway, event_id
        ON CONFLICT DO NOTHING
        RETURNING gateway, event_id
    )
    SELECT e.n, CASE WHEN k.event_id IS NULL THEN 'repeated' ELSE e.intake END
    FROM event e LEFT JOIN kept k ON k.gateway = e.gateway AND k.event_id = e.event_id;
END $$;
