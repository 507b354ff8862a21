-- What happened between a rider and us over some days, by time: earned, and cash moved.
--   $1 rider id, $2 currency, $3 first day, $4 last day
WITH seen AS (
    SELECT t.id, t.at, t.kind, t.order_id,
           coalesce(-sum(p.amount_minor) FILTER (WHERE p.account = 'rider_payable'), 0) AS owed,
           sum(p.amount_minor) FILTER (WHERE p.account = 'rider_cash') AS cash,
           coalesce((SELECT sum(x.amount_minor) FROM ledger_postings x
                     WHERE x.transaction_id = t.id AND x.account = 'tips_payable'), 0) AS tip
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE p.party = $1::text AND p.account IN ('rider_payable', 'rider_cash')
      AND t.currency = $2::text AND t.day BETWEEN $3::date AND $4::date
    GROUP BY t.id, t.at, t.kind, t.order_id
)
SELECT at, kind, order_id, amount_minor::bigint FROM (
    SELECT id, at, 1 AS n, order_id, owed - tip AS amount_minor,
           CASE kind WHEN 'rider_earning' THEN 'delivery' WHEN 'rider_incentive' THEN 'incentive'
                     ELSE kind END AS kind
    FROM seen WHERE kind <> 'rider_payout' AND owed <> tip
    UNION ALL
    SELECT id, at, 2, order_id, tip, 'tip' FROM seen WHERE kind = 'rider_earning' AND tip <> 0
    UNION ALL
    SELECT id, at, 3, order_id, cash,
           CASE kind WHEN 'capture' THEN 'cash_taken' WHEN 'rider_deposit' THEN 'cash_handed_in'
                     WHEN 'rider_payout' THEN 'cash_kept' ELSE kind END
    FROM seen WHERE cash <> 0
) rows ORDER BY at, id, n
