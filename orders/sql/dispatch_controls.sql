-- What ops have said about dispatch, newest first.
--   $1 city ids (text[]), or null for all
--   $2 whether those that are over too; $3 ids below this one or null; $4 how many
SELECT * FROM dispatch_controls
WHERE ($1::text[] IS NULL OR city_id = ANY ($1::text[]))
  AND ($2::boolean OR (released_at IS NULL AND until > darkstore_now()))
  AND ($3::text IS NULL OR id < $3::text)
ORDER BY id DESC LIMIT $4::integer
