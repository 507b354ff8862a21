-- Wallets: a customer's balance, as the ledger has it, and what open orders hold of it.
-- The balance follows the postings on the account 'wallet' (a liability, party: the user), so
-- whoever posts to it moves it; the CHECK of the table (0 <= held <= balance) refuses the rest.
CREATE OR REPLACE FUNCTION wallet_follows_postings() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_currency text;
BEGIN
    SELECT currency INTO v_currency FROM ledger_transactions WHERE id = NEW.transaction_id;
    UPDATE wallets SET balance_minor = balance_minor - NEW.amount_minor
    WHERE user_id = NEW.party AND currency = v_currency;
    IF NOT FOUND THEN
        INSERT INTO wallets (user_id, currency, balance_minor)
        VALUES (NEW.party, v_currency, -NEW.amount_minor)
        ON CONFLICT (user_id, currency)
        DO UPDATE SET balance_minor = wallets.balance_minor + excluded.balance_minor;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER ledger_postings_move_wallets
    AFTER INSERT ON ledger_postings
    FOR EACH ROW WHEN (NEW.account = 'wallet') EXECUTE FUNCTION wallet_follows_postings();

-- The same for the cash in a rider's hands; CHECK: nobody hands in more than they hold.
CREATE OR REPLACE FUNCTION rider_cash_follows_postings() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_currency text;
BEGIN
    SELECT currency INTO v_currency FROM ledger_transactions WHERE id = NEW.transaction_id;
    UPDATE rider_cash SET cash_minor = cash_minor + NEW.amount_minor
    WHERE rider_id = NEW.party AND currency = v_currency;
    IF NOT FOUND THEN
        INSERT INTO rider_cash (rider_id, currency, cash_minor)
        VALUES (NEW.party, v_currency, NEW.amount_minor)
        ON CONFLICT (rider_id, currency)
        DO UPDATE SET cash_minor = rider_cash.cash_minor + excluded.cash_minor;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER ledger_postings_move_rider_cash
    AFTER INSERT ON ledger_postings
    FOR EACH ROW WHEN (NEW.account = 'rider_cash')
    EXECUTE FUNCTION rider_cash_follows_postings();

-- wallet_hold: set aside for an order what is free of a balance, at most p_limit.
-- Returns the minor units that it holds; 0 when there is nothing.  Locks the wallet's row.
CREATE OR REPLACE FUNCTION wallet_hold(
    p_user text, p_currency text, p_order_id text, p_limit bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_amount bigint;
BEGIN
    SELECT least(balance_minor - held_minor, p_limit) INTO v_amount FROM wallets
    WHERE user_id = p_user AND currency = p_currency FOR UPDATE;
    IF coalesce(v_amount, 0) <= 0 THEN
        RETURN 0;
    END IF;
    UPDATE wallets SET held_minor = held_minor + v_amount
    WHERE user_id = p_user AND currency = p_currency;
    INSERT INTO wallet_holds (order_id, user_id, currency, amount_minor, at)
    VALUES (p_order_id, p_user, p_currency, v_amount, darkstore_now());
    RETURN v_amount;
END $$;

-- wallet_release: end an order's hold; the money is free again, or spent by the caller's postings.
-- Returns what was held; 0 when nothing was.
CREATE OR REPLACE FUNCTION wallet_release(p_order_id text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    h wallet_holds%ROWTYPE;
BEGIN
    DELETE FROM wallet_holds WHERE order_id = p_order_id RETURNING * INTO h;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE wallets SET held_minor = held_minor - h.amount_minor
    WHERE user_id = h.user_id AND currency = h.currency;
    RETURN h.amount_minor;
END $$;
