-- Every stream holds 1, 2, 3… up to its head, and none of it was passed over by the relay.
-- Returns stream names.
WITH rows AS (
    SELECT stream, min(seq) AS first, max(seq) AS last, count(*) AS events,
           max(seq) FILTER (WHERE published_at IS NOT NULL) AS last_published,
           min(seq) FILTER (WHERE published_at IS NULL) AS first_waiting
    FROM outbox GROUP BY 1
)
SELECT coalesce(h.stream, r.stream) AS id, h.seq AS head, r.first, r.last, r.events,
       r.first_waiting, r.last_published
FROM stream_heads h FULL JOIN rows r USING (stream)
WHERE h.seq IS DISTINCT FROM r.last OR r.first <> 1 OR r.events <> r.last
   OR r.first_waiting < r.last_published
