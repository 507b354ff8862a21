-- Take a rider off the map: the shift has ended.
-- KEYS[1]  hash rider id -> "t_ms|cell|payload"
-- KEYS[2]  prefix of the sets of rider ids by cell; same slot as KEYS[1]
-- ARGV[1]  rider id
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
    local cell = string.match(known, '^%d+|([^|]*)|')
    redis.call('SREM', KEYS[2] .. cell, ARGV[1])
    redis.call('HDEL', KEYS[1], ARGV[1])
end
return known and 1 or 0
