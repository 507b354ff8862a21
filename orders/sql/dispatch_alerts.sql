-- Alerts about orders that need a person, newest first.
--   $1 city ids (text[]), or null for all
--   $2 whether resolved ones too; $3 ids below this one or null; $4 how many
SELECT * FROM dispatch_alerts
WHERE ($1::text[] IS NULL OR city_id = ANY ($1::text[]))
  AND ($2::boolean OR resolved_at IS NULL)
  AND ($3::text IS NULL OR id < $3::text)
ORDER BY id DESC LIMIT $4::integer
