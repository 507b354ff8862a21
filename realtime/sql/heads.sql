-- The epoch, and the heads of many streams, in one statement.
--
-- $1 text[]  streams
--
-- Reply: at least one row; epoch, stream, seq.  A stream without events has no row; stream and
-- seq are null in the only row when none has any.
SELECT e.epoch, h.stream, h.seq
FROM stream_epoch AS e
LEFT JOIN stream_heads AS h ON h.stream = ANY($1::text[])
