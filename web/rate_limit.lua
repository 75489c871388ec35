-- Counts a request of an API key, unless the key has had all its requests of the last minute.
--
-- KEYS[1]  sorted set: the key's requests of the last minute by time (microseconds, by the server's clock)
--
-- ARGV[1]  how many requests a minute the key may make
-- ARGV[2]  id of the request
--
-- Returns 0 if the request was counted, otherwise the milliseconds until one may be made.

local MINUTE = 60 * 1000000 -- microseconds

local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
local limit = tonumber(ARGV[1])
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - MINUTE)
local used = redis.call("ZCARD", KEYS[1])
if used >= limit then
    local oldest = redis.call("ZRANGE", KEYS[1], used - limit, used - limit, "WITHSCORES")
    return math.max(1, math.ceil((oldest[2] + MINUTE - now) / 1000))
end
redis.call("ZADD", KEYS[1], now, ARGV[2])
redis.call("PEXPIRE", KEYS[1], 60000)
return 0
