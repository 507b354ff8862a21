-- Write the newest positions of a city's riders and keep its H3 cells.
-- KEYS[1]  hash rider id -> "t_ms|cell|payload"
-- KEYS[2]  prefix of the sets of rider ids by cell (res 9); same slot as KEYS[1]
-- ARGV     groups of four: rider id, t in POSIX milliseconds, cell, payload
-- Reply: how many were newer than what was known.  A cell's set is touched only on change.
local newer = 0
for i = 1, #ARGV, 4 do
    local rider, t, cell, payload = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
    local known = redis.call('HGET', KEYS[1], rider)
    local known_t, known_cell = nil, nil
    if known then
        known_t, known_cell = string.match(known, '^(%d+)|([^|]*)|')
    end
    if not known_t or t > tonumber(known_t) then
        redis.call('HSET', KEYS[1], rider, string.format('%d', t) .. '|' .. cell .. '|' .. payload)
        if known_cell ~= cell then
            if known_cell then
                redis.call('SREM', KEYS[2] .. known_cell, rider)
            end
            redis.call('SADD', KEYS[2] .. cell, rider)
        end
        newer = newer + 1
    end
end
return newer
