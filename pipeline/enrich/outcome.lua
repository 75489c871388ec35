-- Notes what became of a request that the gate let through. All times are milliseconds of Redis's clock.
--
-- KEYS[1] breaker  hash    failures, since, as in gate.lua; answered: when Gemini last answered anything
-- KEYS[2] probe    string  as in gate.lua
-- KEYS[3] log      zset    as in gate.lua
--
-- ARGV "answered", old member of the log, new member of the log ("": it was right)
-- ARGV "failed", when the request went, by how much it counts, failures that open the breaker, how long a probe holds
--      it, after how long without a failure it is forgotten

local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

if ARGV[1] == "answered" then
  redis.call("HDEL", KEYS[1], "failures", "since")
  redis.call("HSET", KEYS[1], "answered", now)
  redis.call("PEXPIRE", KEYS[1], 3600000)
  redis.call("DEL", KEYS[2])
  local at = ARGV[3] ~= "" and redis.call("ZSCORE", KEYS[3], ARGV[2])
  if at then
    redis.call("ZREM", KEYS[3], ARGV[2])
    redis.call("ZADD", KEYS[3], at, ARGV[3])
  end
  return 0
end

-- Time-outs of many requests end together, when all that was answered meanwhile is past: they are no sign of an outage.
if tonumber(redis.call("HGET", KEYS[1], "answered") or 0) > tonumber(ARGV[2]) then
  return 0
end
local failures = redis.call("HINCRBY", KEYS[1], "failures", ARGV[3])
redis.call("HSETNX", KEYS[1], "since", now)
redis.call("PEXPIRE", KEYS[1], ARGV[6])
if failures >= tonumber(ARGV[4]) then
  redis.call("SET", KEYS[2], "failed", "PX", ARGV[5], "NX")
end
return failures
