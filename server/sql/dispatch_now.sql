-- What dispatch looks like in each city now.
SELECT c.id AS city_id,
       (SELECT coalesce(extract(epoch FROM darkstore_now() - min(o.placed_at)), 0)::float8
        FROM orders o WHERE o.city_id = c.id AND o.delivery_status = 'unassigned'
          AND o.status IN ('confirmed', 'picking', 'packed') AND o.slot_start IS NULL)
           AS oldest_waiting_s,
       (SELECT count(*) FROM orders o WHERE o.city_id = c.id AND o.delivery_status = 'unassigned'
          AND o.status IN ('confirmed', 'picking', 'packed')) AS waiting,
       (SELECT count(*) FROM shifts h JOIN riders r ON r.id = h.rider_id
        WHERE r.city_id = c.id AND h.stopped_at IS NULL) AS on_shift,
       (SELECT count(*) FROM trips t WHERE t.city_id = c.id AND t.status = 'active') AS riding
FROM cities c ORDER BY c.id LIMIT $1::integer
