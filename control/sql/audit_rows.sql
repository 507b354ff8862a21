-- The audit log, newest first.
--   $1 city ids (text[]), or null for everything
--   $2 actor, $3 action (or its part before the dot, as 'order.'), $4 object id: each or null
--   $5 from this moment on, $6 before this moment: each or null
--   $7 ids below this one or null, $8 how many
SELECT id, at, actor, role, action, object_kind, object_id, city_id, store_id, reason,
       before, after, request_id
FROM audit_log
WHERE ($1::text[] IS NULL OR city_id = ANY ($1::text[]))
  AND ($2::text IS NULL OR actor = $2::text)
  AND ($3::text IS NULL OR action = $3::text
       OR (right($3::text, 1) = '.' AND starts_with(action, $3::text)))
  AND ($4::text IS NULL OR object_id = $4::text)
  AND ($5::timestamptz IS NULL OR at >= $5::timestamptz)
  AND ($6::timestamptz IS NULL OR at < $6::timestamptz)
  AND ($7::text IS NULL OR id < $7::text)
ORDER BY id DESC LIMIT $8::integer
