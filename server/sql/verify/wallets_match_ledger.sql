-- A wallet's balance is what the ledger owes its customer, and what it holds are the parts of
-- orders that are not delivered, cancelled or refused yet.
-- Returns user ids (or order ids) with what is wrong.
WITH owed AS (
    SELECT p.party AS user_id, t.currency, -sum(p.amount_minor) AS balance
    FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id
    WHERE p.account = 'wallet' GROUP BY 1, 2
), held AS (
    SELECT user_id, currency, sum(amount_minor) AS amount FROM wallet_holds GROUP BY 1, 2
)
SELECT coalesce(w.user_id, o.user_id, h.user_id) AS id, 'another balance or hold' AS wrong,
       w.balance_minor, o.balance AS ledger_minor, w.held_minor, h.amount AS holds_minor
FROM wallets w
FULL JOIN owed o ON o.user_id = w.user_id AND o.currency = w.currency
FULL JOIN held h ON h.user_id = coalesce(w.user_id, o.user_id)
    AND h.currency = coalesce(w.currency, o.currency)
WHERE coalesce(w.balance_minor, 0) <> coalesce(o.balance, 0)
   OR coalesce(w.held_minor, 0) <> coalesce(h.amount, 0)
UNION ALL
SELECT coalesce(h.order_id, o.id), 'a hold that its order does not have, or the other way round',
       o.wallet_minor, NULL, NULL, h.amount_minor
FROM wallet_holds h
FULL JOIN (
    SELECT id, user_id, currency, wallet_minor FROM orders
    WHERE wallet_minor > 0
      AND status IN ('placed', 'confirmed', 'picking', 'packed', 'picked_up', 'arriving')
) o ON o.id = h.order_id
WHERE h.amount_minor IS DISTINCT FROM o.wallet_minor OR h.user_id <> o.user_id
   OR h.currency <> o.currency
