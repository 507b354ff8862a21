-- The last reports of all cities that are not too old to count, and proposals of the last hour.
SELECT (SELECT jsonb_object_agg(c.city_id, c.report) FROM city_supply c
        WHERE c.at > darkstore_now() - interval '1 hour') AS reports,
       (SELECT jsonb_object_agg(p.status, p.n)
        FROM (SELECT status, count(*) AS n FROM rider_proposals
              WHERE ended_at IS NULL OR ended_at > darkstore_now() - interval '1 hour'
              GROUP BY status) p) AS proposals
