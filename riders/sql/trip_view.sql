-- Trips as API.md shows them, newest first.
--   $1 trip id, or null
--   $2 rider id, or null
--   $3 statuses (text[]), or null for any
--   $4 how many at most
SELECT t.id, t.rider_id, t.store_id, t.city_id, t.status, t.rider_code, t.pay_minor, t.currency,
       t.distance_m, f.id AS offer_id, f.status AS offer_status, f.expires_at,
       (SELECT jsonb_agg(jsonb_build_object(
            'n', s.n, 'position', s.position, 'kind', s.kind, 'order_id', s.order_id, 'lat', s.lat, 'lon', s.lon,
            'planned_at', s.planned_at, 'status', s.status,
            'cash_due_minor', s.cash_due_minor) ORDER BY s.position)
        FROM trip_stops s WHERE s.trip_id = t.id) AS stops
FROM trips t LEFT JOIN offers f ON f.trip_id = t.id
WHERE ($1::text IS NULL OR t.id = $1::text)
  AND ($2::text IS NULL OR t.rider_id = $2::text)
  AND ($3::text[] IS NULL OR t.status = ANY ($3::text[]))
ORDER BY t.id DESC LIMIT $4::integer
