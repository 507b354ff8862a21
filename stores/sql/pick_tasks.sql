-- Pick tasks as API.md shows them; lines in the order of a walk, chilled and frozen last, each with
-- what may be fetched in place of missing units.
--   $1 pick task id, or null
--   $2 store id, or null for the one task
--   $3 statuses (text[]), or null for any
--   $4 how many at most
SELECT t.id, t.order_id, t.store_id, t.status, t.due_at, t.picker_id, t.bags, t.shelf, t.version,
       (SELECT jsonb_agg(jsonb_build_object(
            'line_id', l.line_id, 'sku_id', l.sku_id, 'name', l.name, 'quantity', l.quantity,
            'picked', l.picked, 'missing', l.missing, 'bin', l.bin,
            'temperature', l.temperature, 'barcode', l.barcode,
            'waiting', EXISTS (SELECT 1 FROM pick_task_substitutes w
                WHERE w.pick_task_id = t.id AND w.line_id = l.line_id AND w.status = 'proposed'),
            'substitutes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'id', s.id, 'sku_id', s.sku_id, 'name', s.name, 'quantity', s.quantity,
                'picked', s.picked, 'missing', s.missing, 'bin', s.bin,
                'temperature', s.temperature, 'barcode', s.barcode, 'status', s.status,
                'deadline_at', to_char(s.deadline_at AT TIME ZONE 'UTC',
                                       'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) ORDER BY s.id), '[]')
                FROM pick_task_substitutes s
                WHERE s.pick_task_id = t.id AND s.line_id = l.line_id))
            ORDER BY array_position(ARRAY['ambient', 'chilled', 'frozen'], l.temperature),
                     b.walk_order, l.n)
        FROM pick_task_lines l
        LEFT JOIN bins b ON b.store_id = t.store_id AND b.code = l.bin
        WHERE l.pick_task_id = t.id) AS lines
FROM pick_tasks t
WHERE ($1::text IS NULL OR t.id = $1::text)
  AND ($2::text IS NULL OR t.store_id = $2::text)
  AND ($3::text[] IS NULL OR t.status = ANY ($3::text[]))
ORDER BY t.due_at, t.id LIMIT $4::integer
