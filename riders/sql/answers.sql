-- How the riders of a city answered their offers.
--   $1 city id, $2 since, $3 rider ids above this one or null, $4 how many
SELECT r.id AS rider_id, r.name, r.auto_accept,
       r.paused_at IS NOT NULL
           AND (r.paused_until IS NULL OR r.paused_until > darkstore_now()) AS paused,
       f.offers, f.accepted, f.accepted_unasked, f.declined, f.expired, f.withdrawn, f.answer_s,
       coalesce((SELECT jsonb_object_agg(reason, n) FROM (
            SELECT reason, count(*) AS n FROM offers d
            WHERE d.rider_id = r.id AND d.made_at >= $2::timestamptz AND d.status = 'declined'
            GROUP BY 1) AS reasons), '{}') AS decline_reasons
FROM riders r
CROSS JOIN LATERAL (
    SELECT count(*) AS offers,
           count(*) FILTER (WHERE status = 'accepted' AND NOT auto) AS accepted,
           count(*) FILTER (WHERE status = 'accepted' AND auto) AS accepted_unasked,
           count(*) FILTER (WHERE status = 'declined') AS declined,
           count(*) FILTER (WHERE status = 'expired') AS expired,
           count(*) FILTER (WHERE status = 'withdrawn') AS withdrawn,
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY extract(epoch FROM answered_at - made_at)::float8)
               FILTER (WHERE status IN ('accepted', 'declined') AND NOT auto) AS answer_s
    FROM offers o WHERE o.rider_id = r.id AND o.made_at >= $2::timestamptz
) AS f
WHERE r.city_id = $1::text AND ($3::text IS NULL OR r.id > $3::text)
ORDER BY r.id LIMIT $4::integer
