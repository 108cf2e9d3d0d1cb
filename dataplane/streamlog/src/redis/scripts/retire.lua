-- Forgets a dead owner that owns nothing. KEYS: owners, streams of the owner. ARGV: incarnation.
if redis.call('SCARD', KEYS[2]) == 0 then
  return redis.call('SREM', KEYS[1], ARGV[1])
end
return 0
