-- darkstore_now(): virtual time, the same for every process (kit/clock.py).
-- Reads the one-row table clock; with speed 1 it is the wall clock of the database.
CREATE OR REPLACE FUNCTION darkstore_now() RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
-- Not LANGUAGE sql, which sets a function up anew for every statement: 14 us instead of 5.
BEGIN
    RETURN (SELECT anchor_virtual + (clock_timestamp() - anchor_real) * speed FROM clock);
END $$;
