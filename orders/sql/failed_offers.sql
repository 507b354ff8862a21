-- How often offers of orders came to nothing, since somebody last took one.
--   $1 order ids (text[])
SELECT a.order_id, count(*) FILTER (WHERE f.status = 'declined') AS declined,
       count(*) FILTER (WHERE f.status = 'expired') AS expired
FROM assignments a JOIN offers f ON f.trip_id = a.trip_id
WHERE a.order_id = ANY ($1::text[]) AND f.status IN ('declined', 'expired')
  AND f.made_at > coalesce((
        SELECT max(g.answered_at) FROM assignments b JOIN offers g ON g.trip_id = b.trip_id
        WHERE b.order_id = a.order_id AND g.status = 'accepted'), '-infinity')
GROUP BY a.order_id
