-- Cities where there is anything to balance: riders on shift, orders on their way, or a report that
-- still says that there are.
SELECT c.id FROM cities c
WHERE EXISTS (SELECT FROM riders r JOIN shifts h ON h.rider_id = r.id
              WHERE r.city_id = c.id AND h.stopped_at IS NULL AND h.ends_at > darkstore_now())
   OR EXISTS (SELECT FROM orders o
              WHERE o.city_id = c.id AND o.delivery_status NOT IN ('done', 'failed', 'cancelled'))
   OR EXISTS (SELECT FROM city_supply s WHERE s.city_id = c.id AND (s.report ->> 'active')::boolean)
ORDER BY c.id
