-- Partitions whose lease nobody holds.
--   $1 partition ids (text[])
SELECT p.id FROM unnest($1::text[]) AS p(id)
LEFT JOIN dispatch_leases l ON l.partition_id = p.id AND l.expires_at > clock_timestamp()
WHERE l.partition_id IS NULL ORDER BY p.id
