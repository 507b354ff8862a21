-- The events of a stream after a place, with the epoch and the head as of the same moment.
--
-- $1 text    stream
-- $2 bigint  seq after which to read
-- $3 bigint  rows at most
--
-- Reply: at least one row; epoch, head (0: no event yet), and seq, type, at, data as text, which
-- are null in the only row when nothing follows.
SELECT e.epoch, COALESCE(h.seq, 0) AS head, o.seq, o.type, o.at, o.data::text AS data
FROM stream_epoch AS e
LEFT JOIN stream_heads AS h ON h.stream = $1
LEFT JOIN LATERAL (
  SELECT seq, type, at, data
  FROM outbox
  WHERE stream = $1 AND seq > $2
  ORDER BY seq
  LIMIT $3
) AS o ON TRUE
ORDER BY o.seq
