-- How busy a store and its city's riders are: the inputs of a promise.
--   $1 store id
SELECT s.open, s.paused_reason,
       (SELECT count(*) FROM pick_tasks t
        WHERE t.store_id = s.id AND t.status IN ('queued', 'claimed')) AS orders_ahead,
       (SELECT count(*) FROM orders o
        WHERE o.city_id = s.city_id AND o.delivery_status = 'unassigned'
          AND (o.pick_from IS NULL OR o.pick_from <= darkstore_now())) AS orders_waiting,
       (SELECT count(*) FROM users u
        WHERE u.role = 'picker' AND s.id = ANY (u.store_ids) AND u.disabled_at IS NULL) AS pickers,
       (SELECT count(*) FROM shifts h JOIN riders r ON r.id = h.rider_id
        WHERE h.stopped_at IS NULL AND h.ends_at > darkstore_now() AND r.city_id = s.city_id
          AND NOT EXISTS (SELECT 1 FROM trips t WHERE t.rider_id = r.id
                          AND t.status IN ('offered', 'active'))) AS riders_free,
       (SELECT count(*) FROM shifts h JOIN riders r ON r.id = h.rider_id
        WHERE h.stopped_at IS NULL AND h.ends_at > darkstore_now()
          AND r.city_id = s.city_id) AS riders_on_shift
FROM stores s WHERE s.id = $1::text
