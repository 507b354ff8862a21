-- What ops have said holds: nobody else brings a pinned order, and no control is about another city.
-- Returns ids of controls with what is wrong.
SELECT c.id, c.kind, c.order_id, c.rider_id,
       CASE WHEN r.city_id <> c.city_id THEN 'rider of another city'
            WHEN o.city_id <> c.city_id THEN 'order of another city'
            WHEN s.city_id <> c.city_id THEN 'store of another city'
            ELSE 'brought by ' || o.rider_id END AS wrong
FROM dispatch_controls c
LEFT JOIN riders r ON r.id = c.rider_id
LEFT JOIN orders o ON o.id = c.order_id
LEFT JOIN stores s ON s.id = c.store_id
WHERE r.city_id <> c.city_id OR o.city_id <> c.city_id OR s.city_id <> c.city_id
   OR (c.kind = 'pin' AND c.released_at IS NULL AND c.until > darkstore_now()
       AND o.delivery_status IN ('assigned', 'at_store') AND o.rider_id <> c.rider_id)
