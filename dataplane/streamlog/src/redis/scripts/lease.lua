-- Takes, renews or gives up a lease, by this server's clock, and forgets those that ended long ago.
-- KEYS: leases. ARGV: incarnation, milliseconds to live (0: ends now), what it says, milliseconds
-- for which a dead one is remembered. A lease is "<end in ms> <what it said>".
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local live, said = tonumber(ARGV[2]), ARGV[3]
local known = redis.call('HGET', KEYS[1], ARGV[1])
if live > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now + live) .. said)
elseif known then
  local rest = string.find(known, ' ', 1, true)
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. string.sub(known, rest))
end
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local ends = tonumber(string.match(all[at + 1], '^%d+'))
  if ends + tonumber(ARGV[4]) < now then
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return 1
