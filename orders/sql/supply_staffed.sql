-- Whether a city has, or an hour ago still had, riders on shift; else nobody can tell of a shortage.
--   $1 city id, $2 a shift that ended after this counts
SELECT EXISTS (SELECT FROM riders r JOIN shifts h ON h.rider_id = r.id
               WHERE r.city_id = $1::text
                 AND least(coalesce(h.stopped_at, h.ends_at), h.ends_at) > $2::timestamptz)
       AS staffed
