-- Records the outcome of a permitted request. All times are milliseconds of Redis's clock.
--
-- KEYS[1] breaker  hash    failures, since, cap, as in limiter.lua; answered: when the provider last answered
-- KEYS[2] probe    string  as in limiter.lua
-- KEYS[3] hold     string  as in limiter.lua
-- KEYS[4] flight   zset    as in limiter.lua
-- KEYS[5] refused  set     jobs that were rate-limited in a row
-- KEYS[6] log      zset    as in limiter.lua
--
-- ARGV request id, then
--      "counted": tokens were counted, which shows nothing about requests for text
--      "answered", old member of the log, new member of the log ("": unchanged), cap above which none is needed
--      "rate_limited", job, how long to hold all requests, jobs in a row after which to do so
--      "failed", when the request was sent, its weight, failures that open the breaker, probe interval, time without
--      a failure after which the breaker closes
--
-- Returns the jobs that a rate limit proves not to be its cause.

local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local HOUR = 3600000

redis.call("ZREM", KEYS[4], ARGV[1])

if ARGV[2] == "counted" then
  return {}
end

if ARGV[2] ~= "failed" then
  redis.call("HDEL", KEYS[1], "failures", "since")
  redis.call("HSET", KEYS[1], "answered", now)
  redis.call("PEXPIRE", KEYS[1], HOUR)
  redis.call("DEL", KEYS[2])
end

if ARGV[2] == "answered" then
  redis.call("DEL", KEYS[5])
  if redis.call("HEXISTS", KEYS[1], "cap") == 1 and redis.call("HINCRBY", KEYS[1], "cap", 1) >= tonumber(ARGV[5]) then
    redis.call("HDEL", KEYS[1], "cap")
  end
  local at = ARGV[4] ~= "" and redis.call("ZSCORE", KEYS[6], ARGV[3])
  if at then
    redis.call("ZREM", KEYS[6], ARGV[3])
    redis.call("ZADD", KEYS[6], at, ARGV[4])
  end
  return {}
end

if ARGV[2] == "rate_limited" then
  local another = redis.call("SADD", KEYS[5], ARGV[3])
  redis.call("PEXPIRE", KEYS[5], HOUR)
  local jobs = redis.call("SCARD", KEYS[5])
  if jobs < tonumber(ARGV[5]) then
    return {}
  end
  if redis.call("PTTL", KEYS[3]) < tonumber(ARGV[4]) then
    redis.call("SET", KEYS[3], "limit", "PX", ARGV[4])
  end
  redis.call("HSET", KEYS[1], "cap", 2) -- not 1: a request that hangs would block all others
  if another == 1 and jobs == tonumber(ARGV[5]) then
    return redis.call("SMEMBERS", KEYS[5])
  end
  return {ARGV[3]}
end

-- Requests that were sent before the last answer time out together. That is no sign of an outage now.
if tonumber(redis.call("HGET", KEYS[1], "answered") or 0) > tonumber(ARGV[3]) then
  return {}
end
local failures = redis.call("HINCRBY", KEYS[1], "failures", ARGV[4])
redis.call("HSETNX", KEYS[1], "since", now)
redis.call("PEXPIRE", KEYS[1], ARGV[7])
if failures >= tonumber(ARGV[5]) then
  redis.call("SET", KEYS[2], "failed", "PX", ARGV[6], "NX")
end
return {}
