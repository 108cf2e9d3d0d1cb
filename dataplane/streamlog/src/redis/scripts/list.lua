-- All facts of a user in one space. KEYS: index. ARGV: what stands before the names of its facts.
-- They carry the same hash tag as the index.
local names, found = redis.call('ZRANGE', KEYS[1], 0, -1), {}
for _, name in ipairs(names) do
  local value = redis.call('GET', ARGV[1] .. name)
  if value then
    found[#found + 1] = name
    found[#found + 1] = value
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return found
