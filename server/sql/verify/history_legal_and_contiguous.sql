-- An order's history counts 1, 2, 3…; each machine starts at its first state, leaves the state
-- that it was in along an edge that it has, and ends where the order says that it is.
-- Returns order ids with the entry and what is wrong.
WITH steps AS (
    SELECT h.*, lag(h.to_state) OVER machine AS was, lead(h.seq) OVER machine IS NULL AS last,
           row_number() OVER (PARTITION BY h.order_id ORDER BY h.seq) AS expected_seq,
           lag(h.at) OVER (PARTITION BY h.order_id ORDER BY h.seq) AS before_at
    FROM order_history h
    WINDOW machine AS (PARTITION BY h.order_id, h.machine ORDER BY h.seq)
), judged AS (
    SELECT s.order_id AS id, s.seq, s.machine, CASE
        WHEN s.seq <> s.expected_seq THEN 'a gap in seq'
        WHEN s.from_state IS DISTINCT FROM s.was THEN 'does not leave the state before it'
        WHEN s.from_state IS NULL AND s.to_state <> CASE s.machine
            WHEN 'order' THEN 'placed' WHEN 'delivery' THEN 'unassigned' ELSE 'pending' END
            THEN 'starts in another state'
        WHEN s.from_state IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM state_edges e WHERE e.machine = s.machine
            AND e.from_state = s.from_state AND e.to_state = s.to_state) THEN 'no such edge'
        WHEN s.last AND s.to_state <> CASE s.machine
            WHEN 'order' THEN o.status WHEN 'delivery' THEN o.delivery_status
            ELSE o.payment_status END THEN 'the order is in another state'
        WHEN s.at < s.before_at THEN 'time runs backwards'
    END AS wrong
    FROM steps s LEFT JOIN orders o ON o.id = s.order_id
)
SELECT id, seq, machine, wrong FROM judged WHERE wrong IS NOT NULL
UNION ALL
SELECT o.id, o.history_seq, 'all', 'entries are missing'
FROM orders o
WHERE (SELECT count(*) FROM order_history h WHERE h.order_id = o.id) <> o.history_seq
   OR (SELECT count(DISTINCT h.machine) FROM order_history h WHERE h.order_id = o.id) <> 3
