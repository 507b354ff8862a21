-- What a count changed is what its movements say, and nothing that waits for approval is booked.
-- Returns count/sku.
SELECT l.count_id || '/' || l.sku_id AS id, l.status, l.applied, coalesce(m.units, 0) AS moved
FROM stock_count_lines l
LEFT JOIN (SELECT reference, sku_id, sum(on_hand_delta) AS units FROM stock_movements
           WHERE kind = 'count' GROUP BY 1, 2) m
    ON m.reference = l.count_id AND m.sku_id = l.sku_id
WHERE coalesce(m.units, 0) <> CASE WHEN l.status = 'applied' THEN l.applied ELSE 0 END
