-- outbox_append: one event at the end of a stream, in the caller's transaction.
--   p_stream  stream and channel name, such as 'order:ord_…'
--   p_type    event type, such as 'order.status'
--   p_data    the event's data
-- Returns the event's seq.  The row lock on stream_heads is held until the commit, which makes
-- seq gap-free and equal to the order of commits.
CREATE OR REPLACE FUNCTION outbox_append(p_stream text, p_type text, p_data jsonb) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
BEGIN
    INSERT INTO stream_heads AS h (stream, seq) VALUES (p_stream, 1)
    ON CONFLICT (stream) DO UPDATE SET seq = h.seq + 1
    RETURNING h.seq INTO v_seq;
    INSERT INTO outbox (stream, seq, partition, type, data, at)
    VALUES (p_stream, v_seq, abs(hashtext(p_stream)::bigint) % 16, p_type, p_data, darkstore_now());
    RETURN v_seq;
END $$;
