-- Decides whether one request may be sent now, for all workers. All times are milliseconds of Redis's clock.
--
-- For one model:
-- KEYS[1] breaker  hash    failures: how many in a row, over all workers; since: time of the first of them; cap: how
--                          many requests may be in flight during recovery, unset otherwise
-- KEYS[2] probe    string  exists while no further probe may be sent through an open breaker
-- KEYS[3] pause    string  exists while the quota is used up
-- KEYS[4] hold     string  exists while the provider's rate limit is exceeded
-- KEYS[5] flight   zset    request in flight -> when it was sent; it no longer counts after the probe interval
-- For all models, since the operator's limits are:
-- KEYS[6] log      zset    request id ":" its input tokens -> when it was sent
-- KEYS[7] waiting  zset    job -> when its turn is due; one place for each job, the earliest goes first
-- KEYS[8] sizes    hash    waiting job -> its input tokens
-- KEYS[9] turn     string  job whose turn came when there was too little room; all others wait until it is sent
--
-- ARGV job, request id, tokens, requests per window (0: unlimited), tokens per window (0: unlimited), window, failures
-- that open the breaker, probe interval, how late a job may be for its turn, how long its place is kept
--
-- Returns {verdict, milliseconds to wait, more, now}. The verdicts:
-- "go"
-- "probe"    go, although the breaker is open
-- "busy"     too many requests of unknown fate are in flight, the first for the milliseconds returned;
--            more: failures in a row
-- "open"     more: milliseconds that the outage has lasted
-- "paused", "held", "limited"

local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local job, request, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, budget, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local threshold, hold, late, kept = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local paused = redis.call("PTTL", KEYS[3])
if paused > 0 then
  return {"paused", paused, 0, now}
end
local held = redis.call("PTTL", KEYS[4])
if held > 0 then
  return {"held", held, 0, now}
end

local failures = tonumber(redis.call("HGET", KEYS[1], "failures") or 0)
local open = failures >= threshold
local cap = tonumber(redis.call("HGET", KEYS[1], "cap") or math.huge)
if failures > 0 then
  -- No more than it takes to open the breaker: an outage costs few requests, and one that hangs blocks no others.
  cap = math.min(cap, math.max(1, threshold - failures))
end
redis.call("ZREMRANGEBYSCORE", KEYS[5], "-inf", now - hold)
if redis.call("ZCARD", KEYS[5]) >= cap then
  local first = redis.call("ZRANGE", KEYS[5], 0, 0, "WITHSCORES")[2]
  return {"busy", now - tonumber(first), failures, now}
end
if open then
  local wait = redis.call("PTTL", KEYS[2])
  if wait > 0 then
    return {"open", wait, now - tonumber(redis.call("HGET", KEYS[1], "since") or now), now}
  end
end

-- Returns the input tokens of the jobs waiting in a range of turns; beyond a window's worth the sum is not exact.
local function tokens_of(first, last)
  local sum = 0
  for _, other in ipairs(redis.call("ZRANGEBYSCORE", KEYS[7], first, last)) do
    sum = sum + tonumber(redis.call("HGET", KEYS[8], other) or 0)
    if sum > budget then
      break
    end
  end
  return sum
end

if limit > 0 or budget > 0 then
  redis.call("ZREMRANGEBYSCORE", KEYS[6], "-inf", now - window)
  for _, gone in ipairs(redis.call("ZRANGEBYSCORE", KEYS[7], "-inf", now - kept)) do
    redis.call("ZREM", KEYS[7], gone)
    redis.call("HDEL", KEYS[8], gone)
  end
  local waited = redis.call("ZSCORE", KEYS[7], job)
  local mine = tonumber(waited or now + late)
  -- Jobs ahead whose turn is due about now. A late job keeps its place but blocks no others.
  local before = "(" .. math.min(mine, now + late)
  local ahead = redis.call("ZCOUNT", KEYS[7], now - late, before)
  local log = redis.call("ZRANGE", KEYS[6], 0, -1, "WITHSCORES")
  local count, used = #log / 2, 0
  local sizes = {}
  for i = 1, count do
    sizes[i] = tonumber(string.match(log[2 * i - 1], ":(%d+)$"))
    used = used + sizes[i]
  end
  local room = limit == 0 or count + ahead < limit
  local affordable, turn = true, false
  if budget > 0 and tokens > 0 then
    turn = redis.call("GET", KEYS[9])
    if turn == job then
      affordable = used == 0 or used + tokens <= budget
    else
      affordable = not turn and (used == 0 or used + tokens_of(now - late, before) + tokens <= budget)
    end
  end
  if not (room and affordable) then
    -- The turn is due when enough requests have left the window for all jobs ahead and this one. The jobs ahead fill
    -- the window in turn: each whole window's worth of them adds a window to the wait.
    local place = ahead
    if not waited then
      place = redis.call("ZCOUNT", KEYS[7], now - late, "+inf")
    end
    local due = now
    if limit > 0 then
      local first = count + place % limit - limit + 1
      due = (first >= 1 and log[2 * first] + window or now) + window * math.floor(place / limit)
    end
    if budget > 0 then
      -- Small requests can keep a large one out for ever, so a job without room in its turn reserves the next.
      if waited and not turn and tokens > 0 and used + tokens > budget and now >= mine - 50 then
        turn, place = job, 0
      elseif turn == job then
        place = 0
      end
      local front = place * (count > 0 and used / count or tokens)  -- of about the size of those sent
      local excess, first = used + front % budget + tokens - budget, 0
      while excess > 0 and first < count do
        first = first + 1
        excess = excess - sizes[first]
      end
      local at = first >= 1 and log[2 * first] + window or now
      due = math.max(due, at + window * math.floor(front / budget))
    end
    due = math.max(due, now + 50)
    if turn == job then
      redis.call("SET", KEYS[9], job, "PX", due - now + late)
    elseif turn then
      due = math.max(due, now + redis.call("PTTL", KEYS[9]) + 1)  -- a key exists until its last millisecond is over
    end
    redis.call("ZADD", KEYS[7], due, job)
    redis.call("HSET", KEYS[8], job, tokens)
    redis.call("PEXPIRE", KEYS[7], kept + due - now)
    redis.call("PEXPIRE", KEYS[8], kept + due - now)
    return {"limited", due - now, 0, now}
  end
  redis.call("ZREM", KEYS[7], job)
  redis.call("HDEL", KEYS[8], job)
  if turn == job then
    redis.call("DEL", KEYS[9])
  end
  redis.call("ZADD", KEYS[6], now, request .. ":" .. tokens)
  redis.call("PEXPIRE", KEYS[6], window)
end

redis.call("ZADD", KEYS[5], now, request)
redis.call("PEXPIRE", KEYS[5], hold)
if open then
  local longer = math.min(3, 1 + (failures - threshold + 1) / 10)
  redis.call("SET", KEYS[2], request, "PX", math.floor(hold * longer))
  return {"probe", 0, 0, now}
end
return {"go", 0, 0, now}
