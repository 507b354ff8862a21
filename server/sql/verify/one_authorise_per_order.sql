-- Every order asks for its money once.
-- Returns order ids (and operations of no order) with the number of authorisations.
SELECT coalesce(o.id, p.order_id) AS id, count(p.id) AS authorisations
FROM orders o
FULL JOIN (SELECT id, order_id FROM payment_operations WHERE kind = 'authorise') p
    ON p.order_id = o.id
GROUP BY 1, o.id HAVING count(p.id) <> 1 OR o.id IS NULL
