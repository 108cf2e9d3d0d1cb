-- Notes that an incarnation is about to own a stream, before it does: an entry too much is harmless.
-- KEYS: owners, streams of the owner. ARGV: incarnation, stream, seconds to live.
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
