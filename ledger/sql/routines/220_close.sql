-- ledger_close: close every day up to p_day, which has to be over.
-- Fixes the movement and the balance of each account and party that moved, and refuses when a
-- transaction, or a currency's day, does not sum to zero.  Returns how many days it closed; 0 when
-- all of them were.  Raises DS409 for a day that is not over.
CREATE OR REPLACE FUNCTION ledger_close(p_day date, p_actor text) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_last date;
    v_wrong text;
    v_closed integer;
BEGIN
    PERFORM pg_advisory_xact_lock(1818584167);
    SELECT coalesce(max(day), '-infinity') INTO v_last FROM ledger_days;
    IF p_day >= (darkstore_now() AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'the day % is not over', p_day USING ERRCODE = 'DS409';
    ELSIF p_day <= v_last THEN
        RETURN 0;
    END IF;

    SELECT t.id INTO v_wrong FROM ledger_transactions t
    LEFT JOIN ledger_postings p ON p.transaction_id = t.id
    WHERE t.day > v_last AND t.day <= p_day
    GROUP BY t.id HAVING coalesce(sum(p.amount_minor), 1) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % does not sum to zero', v_wrong USING ERRCODE = 'DS500';
    END IF;

    WITH moved AS (
        SELECT t.day, t.currency, p.account, coalesce(p.party, '') AS party,
               sum(p.amount_minor)::bigint AS amount
        FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
        WHERE t.day > v_last AND t.day <= p_day GROUP BY 1, 2, 3, 4
    )
    INSERT INTO ledger_day_balances (day, currency, account, party, moved_minor, balance_minor)
    SELECT m.day, m.currency, m.account, m.party, m.amount,
           coalesce(before.balance_minor, 0)
           + sum(m.amount) OVER (PARTITION BY m.currency, m.account, m.party ORDER BY m.day)
    FROM moved m
    LEFT JOIN LATERAL (
        SELECT b.balance_minor FROM ledger_day_balances b
        WHERE b.currency = m.currency AND b.account = m.account AND b.party = m.party
          AND b.day <= v_last
        ORDER BY b.day DESC LIMIT 1
    ) before ON true;

    INSERT INTO ledger_days (day, transactions, closed_at, closed_by)
    SELECT d.day, d.transactions, darkstore_now(), p_actor FROM (
        SELECT t.day, count(*) AS transactions FROM ledger_transactions t
        WHERE t.day > v_last AND t.day <= p_day GROUP BY 1
        UNION ALL
        SELECT p_day, 0 WHERE NOT EXISTS (SELECT 1 FROM ledger_transactions WHERE day = p_day)
    ) d;
    GET DIAGNOSTICS v_closed = ROW_COUNT;
    RETURN v_closed;
END $$;
