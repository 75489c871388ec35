-- Decides whether one request may go to Gemini now, for all workers at once. All times are milliseconds of Redis's clock.
--
-- Of one model:
-- KEYS[1] breaker  hash    failures: how many in a row, over all workers; since: when the first of them was; cap: how
--                          many requests may be on their way while Gemini is tried again, unset when it need not be
-- KEYS[2] probe    string  held for a while by the one request that may go while the breaker is open
-- KEYS[3] pause    string  held while the day's quota is used up
-- KEYS[4] hold     string  held while Gemini wants to hear nothing from anybody
-- KEYS[5] flight   zset    request on its way -> when it went; after `hold` it no longer tells of how Gemini is now
-- Of all models, since the operator's limits are:
-- KEYS[6] log      zset    request id ":" its input tokens -> when it went
-- KEYS[7] waiting  zset    job -> when its turn is expected; who waits longest goes first, one place a job
-- KEYS[8] sizes    hash    job that waits -> its input tokens
-- KEYS[9] turn     string  job that came in its turn and found too little room: until it went nobody else takes any
--
-- ARGV job, request id, tokens, requests a window (0: any), tokens a window (0: any), window, failures that open the
-- breaker, how long a probe holds it, how late a job may come to its turn, how long its place is kept
--
-- Returns {verdict, milliseconds to wait, more, now}; the verdict is "go", "probe" (go, and the breaker is open), "busy" (until
-- one on its way has told how Gemini is; the first has been for as long as is to be waited; more: failures in a row), "open" (more: milliseconds that the outage has lasted),
-- "paused", "held" or "limited".

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
  -- As many as it takes to open the breaker: an outage costs no more calls, and one that hangs holds up nobody.
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

-- The input tokens of those who wait, of a range of turns; more than a window's worth are not told apart.
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
  -- Those whose turn has come, or comes any moment, before this one's; who is late loses no place but holds up nobody.
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
    -- The turn comes when enough of those that went have left the window, for all in front and for this one. Those in
    -- front fill a window as they go; who stands behind a whole window's worth of them waits for another one.
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
      -- Who found no room in its turn is the next, and waits for no more than its own: small ones kept it out.
      if waited and not turn and tokens > 0 and used + tokens > budget and now >= mine - 50 then
        turn, place = job, 0
      elseif turn == job then
        place = 0
      end
      local front = place * (count > 0 and used / count or tokens)  -- about as many as those that went
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
      due = math.max(due, now + redis.call("PTTL", KEYS[9]) + 1)  -- a key is still there in its last millisecond
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
