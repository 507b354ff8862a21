-- darkstore_now(): virtual time, the same for every process (kit/clock.py).
-- Reads the one-row table clock; with speed 1 it is the wall clock of the database.
CREATE OR REPLACE FUNCTION darkstore_now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT anchor_virtual + (clock_timestamp() - anchor_real) * speed FROM clock
$$;
