-- Count one request against a limit, or only look; a sliding window as two counters.
-- The window of an identity begins with its first request.  Of the window before as much counts as
-- of it lies within the last window's length: nobody gets twice the limit around a boundary.
--   KEYS[1]  the counter
--   ARGV[1]  requests allowed in a window
--   ARGV[2]  length of a window, ms
--   ARGV[3]  1 to count, 0 to look
-- Reply: 0 when the request may pass, else the ms until the present window ends.
local limit, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local start, before, present = now, 0, 0
local kept = redis.call('GET', KEYS[1])
if kept then
    local a, b, c = string.match(kept, '^(%d+) (%d+) (%d+)$')
    start, before, present = tonumber(a), tonumber(b), tonumber(c)
    if now >= start + 2 * size or now < start then
        start, before, present = now, 0, 0
    elseif now >= start + size then
        start, before, present = start + size, present, 0
    end
end
local ends_in = start + size - now
if math.floor(before * ends_in / size) + present + 1 > limit then
    return ends_in
end
if ARGV[3] == '1' then
    local value = string.format('%d %d %d', start, before, present + 1)
    redis.call('SET', KEYS[1], value, 'PX', 2 * size)
end
return 0
