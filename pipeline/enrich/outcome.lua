-- Notes what became of a request that the gate let through. All times are milliseconds of Redis's clock.
--
-- KEYS[1] breaker  hash    failures, since, cap, as in gate.lua; answered: when Gemini last answered anything
-- KEYS[2] probe    string  as in gate.lua
-- KEYS[3] hold     string  as in gate.lua
-- KEYS[4] flight   zset    as in gate.lua
-- KEYS[5] refused  set     jobs whose requests, one after another, went beyond a limit that Gemini knows
-- KEYS[6] log      zset    as in gate.lua
--
-- ARGV request id, then
--      "counted": it asked for no text, and tells nothing of how those fare that do
--      "answered", old member of the log, new member of the log ("": it was right), cap at which none is needed any more
--      "refused", job, for how long Gemini wants to hear nothing, jobs in a row that show that all are meant
--      "failed", when the request went, by how much it counts, failures that open the breaker, how long a probe holds
--      it, after how long without a failure it is forgotten
--
-- Returns the jobs that a refusal shows to be without fault, since all are meant.

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

if ARGV[2] == "refused" then
  local another = redis.call("SADD", KEYS[5], ARGV[3])
  redis.call("PEXPIRE", KEYS[5], HOUR)
  local jobs = redis.call("SCARD", KEYS[5])
  if jobs < tonumber(ARGV[5]) then
    return {}
  end
  if redis.call("PTTL", KEYS[3]) < tonumber(ARGV[4]) then
    redis.call("SET", KEYS[3], "limit", "PX", ARGV[4])
  end
  redis.call("HSET", KEYS[1], "cap", 2) -- and not 1: one that hangs would hold up all
  if another == 1 and jobs == tonumber(ARGV[5]) then
    return redis.call("SMEMBERS", KEYS[5])
  end
  return {ARGV[3]}
end

-- Time-outs of many requests end together, when all that was answered meanwhile is past: they are no sign of an outage.
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
