-- What became of the trips that ended lately, by city.
--   $1 how many virtual seconds back
SELECT t.city_id,
       coalesce(sum(t.distance_m) FILTER (WHERE t.status = 'completed'), 0)::bigint AS loaded_m,
       coalesce(sum(t.empty_m) FILTER (WHERE t.status = 'completed'), 0)::bigint AS empty_m,
       count(*) FILTER (WHERE f.status = 'accepted') AS accepted,
       count(*) FILTER (WHERE f.status = 'declined') AS declined,
       count(*) FILTER (WHERE f.status = 'expired') AS expired,
       count(*) FILTER (WHERE f.status = 'withdrawn') AS withdrawn
FROM trips t LEFT JOIN offers f ON f.trip_id = t.id
WHERE t.ended_at > darkstore_now() - make_interval(secs => $1::float8)
GROUP BY t.city_id
