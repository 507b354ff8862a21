-- Write a city's report, unless somebody else has written one since ours was begun.
--   $1 city id, $2 now, $3 report (jsonb), $4 when the report that we know was written, or null
INSERT INTO city_supply (city_id, at, report)
VALUES ($1::text, $2::timestamptz, $3::jsonb)
ON CONFLICT (city_id) DO UPDATE SET at = excluded.at, report = excluded.report
WHERE city_supply.at IS NOT DISTINCT FROM $4::timestamptz
RETURNING city_id
