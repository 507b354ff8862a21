-- Old decisions go, with what they explained.
--   $1 age in real seconds   $2 at most so many
DELETE FROM dispatch_decisions WHERE id IN (
    SELECT id FROM dispatch_decisions
    WHERE recorded_at < now() - make_interval(secs => $1::float8)
    ORDER BY recorded_at LIMIT $2::int)
