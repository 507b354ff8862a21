-- Every control that people set or released by hand is in the audit log, once each.
-- Returns ids of controls.
SELECT c.id, c.set_by, c.released_by,
       count(*) FILTER (WHERE a.action <> 'control.release') AS set_rows,
       count(*) FILTER (WHERE a.action = 'control.release') AS release_rows
FROM dispatch_controls c LEFT JOIN audit_log a ON a.object_id = c.id
GROUP BY c.id, c.set_by, c.released_by
HAVING count(*) FILTER (WHERE a.action <> 'control.release') <> 1
    OR count(*) FILTER (WHERE a.action = 'control.release') > 1
