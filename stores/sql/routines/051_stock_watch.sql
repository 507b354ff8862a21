-- note_low_stock: tell a store once when a product runs low, and arm it again when it has risen.
--   p_limit  how many products at most
-- Low is at or under the product's own threshold, else its store's.  A product that never had a
-- unit here is not low.  Returns how many were told.  Locks no stock row.
CREATE OR REPLACE FUNCTION note_low_stock(p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_told integer := 0;
    v_low record;
BEGIN
    DELETE FROM low_stock l USING stock s, stores t
    WHERE s.store_id = l.store_id AND s.sku_id = l.sku_id AND t.id = l.store_id
      AND s.available > coalesce(s.low_stock_at, t.low_stock_at);
    FOR v_low IN
        SELECT s.store_id, s.sku_id, greatest(s.available, 0) AS available,
               coalesce(s.low_stock_at, t.low_stock_at) AS threshold
        FROM stock s JOIN stores t ON t.id = s.store_id
        WHERE s.available <= coalesce(s.low_stock_at, t.low_stock_at) AND s.version > 1
          AND NOT EXISTS (SELECT 1 FROM low_stock l
                          WHERE l.store_id = s.store_id AND l.sku_id = s.sku_id)
        ORDER BY s.store_id, s.sku_id LIMIT p_limit
    LOOP
        INSERT INTO low_stock (store_id, sku_id, since)
        VALUES (v_low.store_id, v_low.sku_id, darkstore_now()) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            PERFORM outbox_append('store:' || v_low.store_id, 'stock.low', jsonb_build_object(
                'sku_id', v_low.sku_id, 'available', v_low.available,
                'threshold', v_low.threshold));
            v_told := v_told + 1;
        END IF;
    END LOOP;
    RETURN v_told;
END $$;

-- fire_stock_alerts: tell those who wait for a product that it is there again, each once.
--   p_limit  how many alerts at most
-- Returns how many were fired.  One event a product names the alerts; who waits reads the rows.
CREATE OR REPLACE FUNCTION fire_stock_alerts(p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_fired integer := 0;
    v_back record;
BEGIN
    FOR v_back IN
        WITH due AS (
            SELECT a.id, a.store_id, a.sku_id, s.available
            FROM stock_alerts a JOIN stock s USING (store_id, sku_id)
            WHERE a.fired_at IS NULL AND s.available > 0
            ORDER BY a.store_id, a.sku_id, a.id LIMIT p_limit FOR UPDATE OF a SKIP LOCKED
        ), fired AS (
            UPDATE stock_alerts a SET fired_at = darkstore_now() FROM due WHERE a.id = due.id
            RETURNING a.id, a.store_id, a.sku_id, due.available
        )
        SELECT store_id, sku_id, max(available) AS available, jsonb_agg(id ORDER BY id) AS alert_ids
        FROM fired GROUP BY store_id, sku_id ORDER BY store_id, sku_id
    LOOP
        PERFORM outbox_append('store:' || v_back.store_id, 'stock.back', jsonb_build_object(
            'sku_id', v_back.sku_id, 'available', v_back.available,
            'alert_ids', v_back.alert_ids));
        v_fired := v_fired + jsonb_array_length(v_back.alert_ids);
    END LOOP;
    RETURN v_fired;
END $$;
