-- Every order asks for its money once: attempts that did nothing follow one another, and at most the
-- last one, at the order's gateway, stands.
-- Returns order ids (and operations of no order) with the number of authorisations and of those
-- that stand.
SELECT coalesce(o.id, p.order_id) AS id, count(p.id) AS authorisations,
       count(p.id) FILTER (WHERE p.status <> 'failed') AS standing
FROM orders o
FULL JOIN (SELECT id, order_id, status, attempt, gateway FROM payment_operations
           WHERE kind = 'authorise') p ON p.order_id = o.id
GROUP BY 1, o.id
HAVING o.id IS NULL OR count(p.id) = 0
    OR count(p.id) FILTER (WHERE p.status <> 'failed') > 1
    OR count(DISTINCT p.attempt) <> count(p.id) OR max(p.attempt) <> count(p.id)
    OR max(p.attempt) FILTER (WHERE p.status <> 'failed') <> count(p.id)
    OR bool_or(p.status <> 'failed' AND p.gateway <> o.gateway)
