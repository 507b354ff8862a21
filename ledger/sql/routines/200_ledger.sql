-- The ledger's own guards.  Nothing is changed or deleted; a transaction says how many postings it
-- has (`size`), gets them all, and they sum to zero; it belongs to a day that is not closed yet.
CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: post a correction' USING ERRCODE = 'DS500';
END $$;

CREATE OR REPLACE TRIGGER ledger_postings_append_only
    BEFORE UPDATE OR DELETE ON ledger_postings
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

CREATE OR REPLACE TRIGGER ledger_transactions_append_only
    BEFORE UPDATE OR DELETE ON ledger_transactions
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

CREATE OR REPLACE TRIGGER ledger_days_append_only
    BEFORE UPDATE OR DELETE ON ledger_days
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

CREATE OR REPLACE TRIGGER ledger_day_balances_append_only
    BEFORE UPDATE OR DELETE ON ledger_day_balances
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

-- The accounting day (UTC) of what happened `at` a time: its own day, or the first open one when
-- that is closed.  The shared lock is held to the end, so that a day is never closed around it
-- (ledger_close takes it exclusively).
CREATE OR REPLACE FUNCTION ledger_gives_day() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1818584167);
    NEW.day := greatest((NEW.at AT TIME ZONE 'UTC')::date, (SELECT max(day) + 1 FROM ledger_days));
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER ledger_transactions_give_day
    BEFORE INSERT ON ledger_transactions
    FOR EACH ROW EXECUTE FUNCTION ledger_gives_day();

-- Once a transaction, at commit.
CREATE OR REPLACE FUNCTION ledger_sums_to_zero() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_sum bigint;
    v_count integer;
BEGIN
    SELECT sum(amount_minor), count(*) INTO v_sum, v_count FROM ledger_postings
    WHERE transaction_id = NEW.id;
    IF v_sum IS DISTINCT FROM 0 OR v_count <> NEW.size THEN
        RAISE EXCEPTION 'transaction % is off by % (% of % postings)',
            NEW.id, v_sum, v_count, NEW.size USING ERRCODE = 'DS500';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS ledger_postings_sum_to_zero ON ledger_postings;
DROP TRIGGER IF EXISTS ledger_transactions_sum_to_zero ON ledger_transactions;
CREATE CONSTRAINT TRIGGER ledger_transactions_sum_to_zero
    AFTER INSERT ON ledger_transactions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_sums_to_zero();

-- Once a statement: a transaction that has its postings gets no further ones.
CREATE OR REPLACE FUNCTION ledger_postings_are_complete() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM added a JOIN ledger_transactions t ON t.id = a.transaction_id
    WHERE a.n NOT BETWEEN 1 AND t.size;
    IF FOUND THEN
        RAISE EXCEPTION 'a transaction of the ledger has all of its postings'
            USING ERRCODE = 'DS500';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER ledger_postings_complete
    AFTER INSERT ON ledger_postings REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_postings_are_complete();
