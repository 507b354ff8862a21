-- Publish a batch of events: append each to its channel's log and tell the subscribers, once.
--
-- KEYS[2i-1]  log of event i (stream; entry id is "<seq>-0", field "f" is the frame)
-- KEYS[2i]    topic of event i (pub/sub channel)
-- ARGV[1]     entries that a log keeps, approximately
-- ARGV[2]     seconds after its last event that a log is dropped
-- ARGV[2i+1]  seq of event i
-- ARGV[2i+2]  packet of event i: a header line, "\n", the frame
--
-- Reply: how many events were new.  A repeat is refused by XADD (its id is not above the last)
-- and is not told again.
local new = 0
for i = 1, #KEYS / 2 do
  local log, topic = KEYS[2 * i - 1], KEYS[2 * i]
  local seq, packet = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local frame = string.sub(packet, string.find(packet, '\n', 1, true) + 1)
  local added = redis.pcall('XADD', log, 'MAXLEN', '~', ARGV[1], seq .. '-0', 'f', frame)
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then
      return redis.error_reply(added.err)
    end
  else
    redis.call('EXPIRE', log, ARGV[2])
    redis.call('PUBLISH', topic, packet)
    new = new + 1
  end
end
return new
