-- Registers a follower's node. KEYS: head. ARGV: follower. What is sealed or absent changes no more.
local head = redis.call('GET', KEYS[1])
if not head or string.byte(head, 26) >= 4 then
  return 0
end
if not string.find(head, ARGV[1], 47, true) then
  redis.call('APPEND', KEYS[1], ARGV[1])
end
return 1
