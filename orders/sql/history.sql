-- An order's history, all three machines in one sequence.
--   $1 order id
SELECT seq, machine, from_state, to_state, at, actor, reason
FROM order_history WHERE order_id = $1::text ORDER BY seq
