-- Every unit of a lot came and went by a movement that names the lot.
-- Lots of the time before movements named them have none that brought them, and are left out.
-- Returns lot ids.
WITH moved AS (
    SELECT lot_id, sum(on_hand_delta) AS units, bool_or(on_hand_delta > 0) AS brought
    FROM stock_movements WHERE lot_id IS NOT NULL GROUP BY 1
)
SELECT coalesce(l.id, m.lot_id) AS id, l.on_hand, m.units AS moved
FROM moved m
LEFT JOIN lots l ON l.id = m.lot_id
WHERE l.id IS NULL OR (m.brought AND l.on_hand <> m.units)
