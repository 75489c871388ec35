-- Decides whether one request may go to Gemini now, for all workers at once. All times are milliseconds of Redis's clock.
--
-- KEYS[1] breaker  hash    failures: how many in a row, over all workers; since: when the first of them was
-- KEYS[2] probe    string  held for a while by the one request that may go while the breaker is open
-- KEYS[3] pause    string  held while the day's quota is used up
-- KEYS[4] log      zset    request id ":" its input tokens -> when it went
-- KEYS[5] waiting  zset    job -> when its turn is expected; who waits longest goes first, one place a job
--
-- ARGV job, request id, tokens, requests a window (0: any), tokens a window (0: any), window, failures that open the
-- breaker, how long a probe holds it, how late a job may come to its turn, how long its place is kept
--
-- Returns {verdict, milliseconds to wait, milliseconds that the outage has lasted, now}; the verdict is "go", "probe" (go, and
-- the breaker is open), "open", "paused" or "limited".

local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local job, request, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, budget, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local threshold, hold, late, kept = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local paused = redis.call("PTTL", KEYS[3])
if paused > 0 then
  return {"paused", paused, 0, now}
end

local open = tonumber(redis.call("HGET", KEYS[1], "failures") or 0) >= threshold
if open then
  local held = redis.call("PTTL", KEYS[2])
  if held > 0 then
    return {"open", held, now - tonumber(redis.call("HGET", KEYS[1], "since") or now), now}
  end
end

if limit > 0 or budget > 0 then
  redis.call("ZREMRANGEBYSCORE", KEYS[4], "-inf", now - window)
  redis.call("ZREMRANGEBYSCORE", KEYS[5], "-inf", now - kept)
  local mine = tonumber(redis.call("ZSCORE", KEYS[5], job) or now + late)
  -- Those whose turn has come, or comes any moment, before this one's; who is late loses no place but holds up nobody.
  local ahead = redis.call("ZCOUNT", KEYS[5], now - late, "(" .. math.min(mine, now + late))
  local log = redis.call("ZRANGE", KEYS[4], 0, -1, "WITHSCORES")
  local count, used = #log / 2, 0
  local sizes = {}
  for i = 1, count do
    sizes[i] = tonumber(string.match(log[2 * i - 1], ":(%d+)$"))
    used = used + sizes[i]
  end
  local room = limit == 0 or count + ahead < limit
  local affordable = budget == 0 or count == 0 or used + tokens * (ahead + 1) <= budget
  if not (room and affordable) then
    -- The turn comes when enough of those that went have left the window, for all in front and for this one. Those in
    -- front fill a window as they go; who stands behind a whole window's worth of them waits for another one.
    local place = ahead
    if not redis.call("ZSCORE", KEYS[5], job) then
      place = redis.call("ZCOUNT", KEYS[5], now - late, "+inf")
    end
    local due = now
    if limit > 0 then
      local first = count + place % limit - limit + 1
      due = (first >= 1 and log[2 * first] + window or now) + window * math.floor(place / limit)
    end
    if budget > 0 then
      local each = math.max(1, math.floor(budget / math.max(1, tokens)))
      local excess, first = used + tokens * (place % each + 1) - budget, 0
      while excess > 0 and first < count do
        first = first + 1
        excess = excess - sizes[first]
      end
      local at = first >= 1 and log[2 * first] + window or now
      due = math.max(due, at + window * math.floor(place / each))
    end
    due = math.max(due, now + 50)
    redis.call("ZADD", KEYS[5], due, job)
    redis.call("PEXPIRE", KEYS[5], kept + due - now)
    return {"limited", due - now, 0, now}
  end
  redis.call("ZREM", KEYS[5], job)
  redis.call("ZADD", KEYS[4], now, request .. ":" .. tokens)
  redis.call("PEXPIRE", KEYS[4], window)
end

if open then
  redis.call("SET", KEYS[2], request, "PX", hold)
  return {"probe", 0, 0, now}
end
return {"go", 0, 0, now}
