-- Take or renew a partition's lease; no row comes back while another holder's lease lives.
--   $1 partition id, $2 its city's id, $3 holder, $4 life in real seconds
INSERT INTO dispatch_leases AS l (partition_id, city_id, holder, epoch, expires_at)
VALUES ($1::text, $2::text, $3::text, 1, clock_timestamp() + make_interval(secs => $4::float8))
ON CONFLICT (partition_id) DO UPDATE SET
    holder = excluded.holder,
    epoch = CASE WHEN l.holder = excluded.holder AND l.expires_at > clock_timestamp()
                 THEN l.epoch ELSE l.epoch + 1 END,
    expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at <= clock_timestamp()
RETURNING l.epoch
