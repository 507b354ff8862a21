-- The parts of a city's dispatch: their stores, who plans for them, and when they were looked at.
--   $1 city id
SELECT s.dispatch_part AS part,
       array_agg(s.id ORDER BY s.id) AS store_ids,
       min(l.holder) FILTER (WHERE l.expires_at > clock_timestamp()) AS holder,
       max(f.looked_at) AS looked_at
FROM stores s
LEFT JOIN dispatch_leases l ON l.partition_id = s.city_id
    || CASE WHEN s.dispatch_part = 0 THEN '' ELSE '/' || s.dispatch_part END
LEFT JOIN dispatch_figures f USING (partition_id)
WHERE s.city_id = $1::text GROUP BY 1 ORDER BY 1
