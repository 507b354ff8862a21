-- What operators watch of the whole system, in one row of small counts.
SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS outbox_waiting,
       (SELECT coalesce(extract(epoch FROM darkstore_now() - min(at)), 0)::float8
        FROM outbox WHERE published_at IS NULL) AS outbox_age_s,
       (SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL) AS dead_letters,
       (SELECT count(*) FROM payment_operations WHERE status = 'pending') AS payments_pending,
       (SELECT count(*) FROM payment_operations WHERE status = 'unknown') AS payments_unknown,
       (SELECT count(*) FROM payment_alerts WHERE resolved_at IS NULL) AS payment_alerts_open,
       (SELECT count(*) FROM disputes WHERE status = 'opened') AS disputes_open,
       (SELECT count(*) FROM reconciliation_differences WHERE resolved_at IS NULL)
           AS reconciliation_differences,
       (SELECT count(*) FROM shifts WHERE stopped_at IS NULL) AS riders_on_shift,
       (SELECT count(*) FROM trips WHERE status = 'active') AS trips_active,
       (SELECT count(*) FROM dispatch_alerts WHERE resolved_at IS NULL) AS dispatch_alerts_open,
       (SELECT coalesce(sum(dropped), 0) + count(*) FILTER (WHERE file IS NULL)
        FROM dispatch_decisions WHERE recorded_at > now() - interval '5 minutes')::int
           AS decisions_lost,
       (SELECT count(*) FROM dispatch_controls
        WHERE released_at IS NULL AND until > darkstore_now()) AS dispatch_controls,
       (SELECT jsonb_object_agg(status, n) FROM (
            SELECT status, count(*) AS n FROM orders
            WHERE delivery_status NOT IN ('done', 'failed', 'cancelled') GROUP BY 1) AS open
       ) AS orders_open
