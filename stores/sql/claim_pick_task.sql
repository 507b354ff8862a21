-- Give a picker the task with the least slack that nobody else is being given.
--   $1 store id, $2 picker (user id), $3 a certain pick task id, or null for the next one
UPDATE pick_tasks SET status = 'claimed', picker_id = $2::text, claimed_at = darkstore_now(),
                      version = version + 1
WHERE id = (
    SELECT id FROM pick_tasks
    WHERE store_id = $1::text AND status = 'queued' AND ($3::text IS NULL OR id = $3::text)
    ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, order_id
