-- dispatch_alert_view: an alert as the dispatch.alert event and the API say it.
CREATE OR REPLACE FUNCTION dispatch_alert_view(a dispatch_alerts) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', a.id, 'kind', a.kind,
        'status', CASE WHEN a.resolved_at IS NULL THEN 'open' ELSE 'resolved' END,
        'order_id', a.order_id, 'store_id', a.store_id, 'trip_id', a.trip_id,
        'rider_id', a.rider_id, 'detail', a.detail,
        'raised_at', to_char(a.raised_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'resolved_at', to_char(a.resolved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'resolved_by', a.resolved_by, 'resolution', a.resolution)
$$;

-- dispatch_alert_resolve: close an order's open alerts and tell the ops of its city.
--   p_order_id    the order
--   p_kinds       kinds of alerts
--   p_by          who resolves them: a user id, or 'system'
--   p_resolution  what became of it
CREATE OR REPLACE FUNCTION dispatch_alert_resolve(
    p_order_id text, p_kinds text[], p_by text, p_resolution text
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    a dispatch_alerts%ROWTYPE;
    v_count integer := 0;
BEGIN
    FOR a IN
        UPDATE dispatch_alerts
        SET resolved_at = darkstore_now(), resolved_by = p_by, resolution = p_resolution
        WHERE order_id = p_order_id AND kind = ANY (p_kinds) AND resolved_at IS NULL
        RETURNING *
    LOOP
        PERFORM outbox_append('city:' || a.city_id, 'dispatch.alert', dispatch_alert_view(a));
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

-- An alert is over when its order is where the alert wanted it, whoever brought it there.
CREATE OR REPLACE FUNCTION dispatch_alerts_follow_orders() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dispatch_alert_resolve(
        NEW.id,
        CASE WHEN NEW.delivery_status IN ('collected', 'at_door') THEN ARRAY['needs_rider']
             ELSE ARRAY['needs_rider', 'rider_silent', 'handed_back'] END,
        'system', NEW.delivery_status);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER dispatch_alerts_follow_orders
    AFTER UPDATE OF delivery_status ON orders
    FOR EACH ROW
    WHEN (OLD.delivery_status <> NEW.delivery_status
          AND NEW.delivery_status NOT IN ('unassigned', 'offered', 'at_store', 'at_door'))
    EXECUTE FUNCTION dispatch_alerts_follow_orders();
