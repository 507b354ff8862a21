-- Give stops of a trip new places in the ride, and new times where they have one.
--   $1 trip id, $2 stop numbers (int[]), $3 their positions (int[])
--   $4 when each is reached (timestamptz[]), null to leave it as it is
UPDATE trip_stops s
SET position = v.position, planned_at = coalesce(v.planned_at, s.planned_at)
FROM unnest($2::int[], $3::int[], $4::timestamptz[]) AS v(n, position, planned_at)
WHERE s.trip_id = $1::text AND s.n = v.n
