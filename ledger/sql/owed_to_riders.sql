-- What riders are owed at the end of a closed day and were not paid since.
--   $1 the day, $2 only these riders (text[]) or null, $3 how many at most
-- What they were owed comes from the fixed balances of closed days; payouts of later days are taken
-- off, so that a run can be repeated at any time.
WITH balance AS (
    SELECT DISTINCT ON (b.currency, b.party) b.currency, b.party AS rider_id,
           -b.balance_minor AS owed
    FROM ledger_day_balances b
    WHERE b.account = 'rider_payable' AND b.day <= $1::date AND b.party <> ''
      AND ($2::text[] IS NULL OR b.party = ANY ($2::text[]))
    ORDER BY b.currency, b.party, b.day DESC
), paid_since AS (
    SELECT l.rider_id, l.currency, sum(l.cash_minor + l.paid_minor) AS amount
    FROM settlement_lines l
    JOIN ledger_transactions t ON t.key = l.transaction_key
    WHERE t.day > $1::date GROUP BY 1, 2
), owed AS (
    SELECT b.rider_id, b.currency, (b.owed - coalesce(p.amount, 0))::bigint AS owed_minor,
           coalesce((SELECT max(l.until_day) + 1 FROM settlement_lines l
                     WHERE l.rider_id = b.rider_id AND l.currency = b.currency),
                    (SELECT min(f.day) FROM ledger_day_balances f
                     WHERE f.currency = b.currency AND f.account = 'rider_payable'
                       AND f.party = b.rider_id)) AS from_day
    FROM balance b LEFT JOIN paid_since p ON p.rider_id = b.rider_id AND p.currency = b.currency
    WHERE b.owed > coalesce(p.amount, 0)
    ORDER BY b.rider_id, b.currency LIMIT $3::integer
)
SELECT o.rider_id, o.currency, o.owed_minor, o.from_day, $1::date AS until_day,
       e.tips_minor, e.incentives_minor
FROM owed o
CROSS JOIN LATERAL (
    -- A tip is what a delivery takes off the tips that are held for riders.
    SELECT coalesce(sum(x.amount_minor) FILTER (WHERE x.account = 'tips_payable'), 0)::bigint
               AS tips_minor,
           coalesce(sum(x.amount_minor) FILTER (WHERE x.account = 'rider_incentives'), 0)::bigint
               AS incentives_minor
    FROM ledger_postings s
    JOIN ledger_transactions t ON t.id = s.transaction_id
    JOIN ledger_postings x ON x.transaction_id = t.id
    WHERE s.account = 'rider_payable' AND s.party = o.rider_id AND t.currency = o.currency
      AND t.day BETWEEN o.from_day AND $1::date
) e
WHERE NOT EXISTS (SELECT 1 FROM settlement_lines l WHERE l.rider_id = o.rider_id
                  AND l.currency = o.currency AND l.until_day >= $1::date)
