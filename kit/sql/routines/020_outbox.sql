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

-- outbox_open: the first event of each of many new streams, the same on all of them.
--   p_streams  streams that have no event yet, in the order in which their events are to be relayed
--   p_type, p_data   the event
-- Raises unique_violation if one of them has begun already.
CREATE OR REPLACE FUNCTION outbox_open(p_streams text[], p_type text, p_data jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := darkstore_now();
BEGIN
    INSERT INTO stream_heads (stream, seq) SELECT stream, 1 FROM unnest(p_streams) AS stream;
    INSERT INTO outbox (stream, seq, partition, type, data, at)
    SELECT stream, 1, abs(hashtext(stream)::bigint) % 16, p_type, p_data, v_now
    FROM unnest(p_streams) WITH ORDINALITY AS s(stream, n) ORDER BY n;
END $$;

-- outbox_append_all: many events of one type at the end of their streams, in the given order.
--   p_streams  the stream of each event; one that stands there several times is locked once
--   p_type     event type
--   p_data     the data of each event
-- Streams are locked in their order, so two calls never wait for each other in a circle.
CREATE OR REPLACE FUNCTION outbox_append_all(p_streams text[], p_type text, p_data jsonb[])
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := darkstore_now();
BEGIN
    WITH event AS MATERIALIZED (
        SELECT e.stream COLLATE "C" AS stream, e.data, e.n,
               row_number() OVER (PARTITION BY e.stream COLLATE "C" ORDER BY e.n) AS place,
               count(*) OVER (PARTITION BY e.stream COLLATE "C") AS of_stream
        FROM unnest(p_streams, p_data) WITH ORDINALITY AS e(stream, data, n)
    ), head AS (
        INSERT INTO stream_heads AS h (stream, seq)
        SELECT DISTINCT stream, of_stream FROM event ORDER BY stream
        ON CONFLICT (stream) DO UPDATE SET seq = h.seq + excluded.seq
        RETURNING h.stream, h.seq
    )
    INSERT INTO outbox (stream, seq, partition, type, data, at)
    SELECT e.stream, head.seq - e.of_stream + e.place, abs(hashtext(e.stream)::bigint) % 16,
           p_type, e.data, v_now
    FROM event e JOIN head ON head.stream = e.stream ORDER BY e.n;
END $$;
