-- relay_batch: the next events to relay, oldest first, of the partitions that no other relay holds.
--   p_limit  how many at most
-- A stream whose first waiting event is backing off is left alone as a whole; the others go on.
-- Held by advisory locks until the end of the transaction: locks on rows would be written to the
-- log, and flushed to the disk, with every poll of nothing.
--
-- The plan is forced, because the planner's statistics are of another moment: mostly it believes
-- that nothing waits, and has read all that waits with each event of it, or the whole table.
--   What waits is read along its index, from the front, up to the limit.  Only such a scan also
--   marks the entries of what was relayed before, which the next poll then passes over: 0.07 ms
--   after 175,000 events without a vacuum, and 6 ms where it is sorted or read by a bitmap.
--   What backs off is read once, along an index of its own that is nearly always empty.
CREATE OR REPLACE FUNCTION relay_batch(p_limit integer)
RETURNS TABLE (id bigint, stream text, seq bigint, type text, data jsonb, at timestamptz,
               attempts integer)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH mine AS MATERIALIZED (
        SELECT partition FROM outbox_partitions
        WHERE pg_try_advisory_xact_lock(hashtext('outbox_partitions'), partition)
    ), backing_off AS MATERIALIZED (
        SELECT DISTINCT ON (stream) stream, seq FROM outbox
        WHERE published_at IS NULL AND next_attempt_at IS NOT NULL
          AND next_attempt_at > clock_timestamp()
        ORDER BY stream, seq
    )
    SELECT o.id, o.stream, o.seq, o.type, o.data, o.at, o.attempts
    FROM outbox o
    WHERE o.published_at IS NULL AND o.partition IN (SELECT partition FROM mine)
      AND NOT EXISTS (SELECT FROM backing_off b WHERE b.stream = o.stream AND b.seq <= o.seq)
    ORDER BY o.id LIMIT p_limit;
END $$;
