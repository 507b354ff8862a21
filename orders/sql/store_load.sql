-- How busy a store and its city's riders are: the inputs of a promise.  What supply rounds told of
-- the store (orders/supply.py) counts until it lapses.
--   $1 store id
SELECT s.open, s.paused_reason,
       coalesce(v.growth_s, 0) AS growth_s, coalesce(v.riders_short, false) AS riders_short,
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
          AND r.city_id = s.city_id) AS riders_on_shift,
       -- Zones for which ops take no orders at the moment; '*' for all of the store's.
       ARRAY(SELECT coalesce(c.zone_id, '*') FROM dispatch_controls c
             WHERE c.city_id = s.city_id AND c.stop_orders AND c.released_at IS NULL
               AND c.until > darkstore_now()
               AND (c.store_id IS NULL OR c.store_id = s.id)) AS stopped_zones
FROM stores s
LEFT JOIN store_supply v ON v.store_id = s.id AND v.valid_until >= darkstore_now()
WHERE s.id = $1::text
