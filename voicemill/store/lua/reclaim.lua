-- Queues orphaned messages again: those that are in no list and taken by no worker, because Redis evicted either.
--
-- KEYS[1]  the namespace, of which all keys here are made; the names are those of Dramatiq's dispatch.lua
-- ARGV     the queues to check
--
-- Dramatiq's scripts move a message from the list to a worker in one step, so none is in neither for a moment.
--
-- Returns how many messages were queued again.

local namespace = KEYS[1]
local workers = {}
for _, set in ipairs({ ":beats", ":__heartbeats__" }) do
    for _, worker in ipairs(redis.call("ZRANGE", namespace .. set, 0, -1)) do
        workers[worker] = true
    end
end

local count = 0
for _, queue in ipairs(ARGV) do
    local list = namespace .. ":" .. queue
    local known = redis.call("LLEN", list)
    for worker in pairs(workers) do
        known = known + redis.call("SCARD", namespace .. ":__acks__." .. worker .. "." .. queue)
    end
    if known < redis.call("HLEN", list .. ".msgs") then
        local held = {}
        for _, id in ipairs(redis.call("LRANGE", list, 0, -1)) do
            held[id] = true
        end
        for worker in pairs(workers) do
            for _, id in ipairs(redis.call("SMEMBERS", namespace .. ":__acks__." .. worker .. "." .. queue)) do
                held[id] = true
            end
        end
        for _, id in ipairs(redis.call("HKEYS", list .. ".msgs")) do
            if not held[id] then
                redis.call("RPUSH", list, id)
                count = count + 1
            end
        end
    end
end
return count
