-- payment_route: which gateways may be asked for an order's money, in which order, with what token.
--   p_city_id, p_method
--   p  {gateways: the settings' order for the method, token, tokens: {gateway: token},
--       shared_tokens}
-- A city's own order of preference wins over that of the settings.  A gateway without a token of
-- its own gets the plain token if it comes first or if tokens are shared; else it is left out.
-- Returns [{gateway, token}], empty when no gateway can be asked.
CREATE OR REPLACE FUNCTION payment_route(p_city_id text, p_method text, p jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_gateways text[];
    v_token text;
BEGIN
    IF p_method = 'cod' THEN
        RETURN '[{"gateway": "cash"}]';
    END IF;
    SELECT c.gateways INTO v_gateways FROM city_gateways c
    WHERE c.city_id = p_city_id AND c.method = p_method;
    IF v_gateways IS NULL AND jsonb_array_length(p->'gateways') = 1 THEN
        -- As nearly everywhere: no choice to be made, and no query for it.
        v_token := coalesce(p->'tokens'->>(p->'gateways'->>0), p->>'token');
        RETURN CASE WHEN v_token IS NULL THEN '[]' ELSE jsonb_build_array(
            jsonb_build_object('gateway', p->'gateways'->>0, 'token', v_token)) END;
    END IF;
    IF v_gateways IS NULL THEN
        SELECT array_agg(d.name ORDER BY d.n) INTO v_gateways
        FROM jsonb_array_elements_text(p->'gateways') WITH ORDINALITY AS d(name, n);
    END IF;
    RETURN (
        SELECT coalesce(jsonb_agg(
            jsonb_build_object('gateway', t.name, 'token', t.token) ORDER BY t.n), '[]')
        FROM (
            SELECT g.name, g.n, coalesce(
                p->'tokens'->>g.name,
                CASE WHEN g.n = 1 OR (p->>'shared_tokens')::boolean THEN p->>'token' END) AS token
            FROM unnest(v_gateways) WITH ORDINALITY AS g(name, n)
        ) t WHERE t.token IS NOT NULL);
END $$;
