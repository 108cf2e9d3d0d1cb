-- Sets a fact. KEYS: fact, index of its user (absent: none). ARGV: value, milliseconds to live,
-- only where absent (1, 0), name. Gives what stands instead, or nothing.
if ARGV[3] == '1' then
  local found = redis.call('GET', KEYS[1])
  if found then
    return found
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[2] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local ends = now + tonumber(ARGV[2])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', now))
  redis.call('ZADD', KEYS[2], string.format('%.0f', ends), ARGV[4])
  if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
end
return false
