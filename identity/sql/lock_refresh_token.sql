-- A refresh token with its session and user, locked so that two uses of one token cannot both pass.
-- $1 token_hash bytea, $2 grace_s: virtual seconds for which it is just_used.  The session is locked before anything of it is changed (log-out does too).
SELECT t.used_at IS NOT NULL AS used,
       coalesce(t.used_at > darkstore_now() - make_interval(secs => $2::float8), false) AS just_used,
       s.id AS session_id,
       s.revoked_at IS NOT NULL OR u.disabled_at IS NOT NULL AS revoked,
       s.expires_at <= darkstore_now() AS expired,
       u.id AS user_id
FROM refresh_tokens t
JOIN sessions s ON s.id = t.session_id
JOIN users u ON u.id = s.user_id
WHERE t.token_hash = $1::bytea
FOR UPDATE OF s, t
