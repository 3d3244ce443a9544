"""What Redis does at a time, in its own language: scripts, which nothing comes between.

KEYS[1] is the hash of an exchange, but where something else is said.
"""

from __future__ import annotations

NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
FIND = (
    NOW
    + """
local x = redis.call('HMGET', KEYS[1], 'd', 'o', 'a', 'r', 't', 'p')
local function alive(owner)
  local till = owner and redis.call('ZSCORE', KEYS[2], owner)
  return till and tonumber(till) > now and 1 or 0
end
local part = x[6] and redis.call('GET', x[6])
return {x[1], x[2], alive(x[2]), x[3], alive(x[3]), x[4], x[5], part}
"""
)
CLAIM_ONCE = """
if redis.call('GET', KEYS[2]) ~= ARGV[5] then return 0 end
local digest = redis.call('HGET', KEYS[1], 'd')
if digest then return digest end
redis.call('HSET', KEYS[1], 'd', ARGV[1], 'o', ARGV[2], 't', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return false
"""
"""KEYS[2]: the store's name. ARGV[5]: what the claimant takes it to be; under another one nobody
knows what was claimed before."""

APPEND = """
if redis.call('APPEND', KEYS[1], ARGV[1]) ~= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""KEYS[1]: a part. ARGV[2]: its length then; another one means that some of it was lost."""

PUBLISH = """
if redis.call('HEXISTS', KEYS[1], 'u') == 1 then return 0 end
local life = redis.call('HEXISTS', KEYS[1], 'd') == 1 and ARGV[3] or ARGV[2]
if KEYS[2] then
  if redis.call('STRLEN', KEYS[2]) ~= tonumber(ARGV[4]) then return 0 end
  redis.call('HSET', KEYS[1], 'p', KEYS[2])
  redis.call('PEXPIRE', KEYS[2], life)
else
  redis.call('HDEL', KEYS[1], 'p')
end
redis.call('HSET', KEYS[1], 'r', ARGV[1])
redis.call('PEXPIRE', KEYS[1], life)
return 1
"""
"""KEYS[2]: its part, if it has one, of ARGV[4] bytes."""

ENDED = """
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local part = redis.call('HGET', KEYS[1], 'p')
if part then redis.call('PEXPIRE', part, ARGV[1]) end
"""
ANNOUNCE = """
redis.call('HSET', KEYS[1], 'a', ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
"""
DROP = """
local part = redis.call('HGET', KEYS[1], 'p')
if part then redis.call('DEL', part) end
if redis.call('HEXISTS', KEYS[1], 'd') == 1 then redis.call('HDEL', KEYS[1], 'r', 'a', 'p')
else redis.call('DEL', KEYS[1]) end
"""
RENEW = (
    NOW
    + """
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - 600000)) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
local answer = {}
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  answer[#answer + 1] = owner
  answer[#answer + 1] = redis.call('HGET', KEYS[2], owner) or ''
end
redis.call('SET', KEYS[3], ARGV[4], 'NX')
answer[#answer + 1] = redis.call('GET', KEYS[3])
return answer
"""
)
