-- Moves a job from one status to another in one step, so that its record, its events, the indexes of jobs, what its
-- receiver is notified of and the message for the next stage never disagree.
--
-- KEYS[1]  hash: the job's record
-- KEYS[2]  stream: the job's events
-- KEYS[3]  sorted set: ids of unfinished jobs, by the time of their last change (Unix seconds)
-- KEYS[4]  queue of the webhook workers, and the prefix of the keys of store/outbox.py
-- KEYS[5]  hash: how many jobs ended, ever, by status and by what failed
-- KEYS[6]  sorted set: the uploads that no job needs any more, by the time of that (Unix seconds)
-- KEYS[7]  stream: ids of the jobs that got their transcript or ended last
-- KEYS[8]  sorted set: "<id> <owner>" of ended jobs, by when their records expire (Unix seconds)
-- KEYS[9]  prefix of the indexes of jobs, sorted sets of ids by creation (Unix seconds): see keys.index
-- KEYS[10] prefix of the queues
--
-- ARGV[1]  JSON object:
--   job        the job's id
--   now        Unix seconds
--   ttl        how long the record of an ended job is kept (milliseconds)
--   status     the status to enter; absent: keep the present one
--   allowed    list of the statuses in which this is allowed; "new" stands for a job without a record
--   ended      whether `status` is an end
--   needs_source  whether a job in `status` may still have to be decoded again
--   token      the attempt that does this; absent: any. A later attempt makes it stale.
--   begins     stage whose work begins: counts its attempts up and issues a new token
--   finishes   stage whose work ends: the same attempt may say so twice
--   counts     list of the fields to count up by one
--   event      the event, as text; absent: none
--   failure    name under which a failure is counted
--   notify     {id, body}: message to the webhook workers, if the job has a receiver
--   message    {queue, id, body}: message for the next stage
--   arrives    whether clients that wait for a transcript or an end are notified
--   deleted    the status of a tombstone
-- ARGV[2]… pairs of a field of the record and its value; an empty value removes the field; and last
-- ARGV[#ARGV] the time as text, since Lua prints numbers with fewer digits
--
-- Returns the token that was issued, or 1: done; 0: the job's status forbids it, or the attempt is stale; -1: there is
-- no such job.

local spec = cjson.decode(ARGV[1])
local record, unfinished, outbox = KEYS[1], KEYS[3], KEYS[4]
local job, now, status = spec.job, spec.now, spec.status
local at = ARGV[#ARGV]

local known = redis.call("HMGET", record, "status", "token", "owner", "created_at")
local present = known[1]
if present == spec.deleted then
    return -1
end
if spec.token then
    if tonumber(known[2] or 0) ~= spec.token then
        return 0
    end
    if spec.finishes and redis.call("HGET", record, spec.finishes .. ".finished_by") == tostring(spec.token) then
        return 1
    end
end
local allowed = false
for _, each in ipairs(spec.allowed) do
    allowed = allowed or each == (present or "new")
end
if not allowed then
    return present and 0 or -1
end

-- An empty value removes the field.
for i = 2, #ARGV - 1, 2 do
    if ARGV[i + 1] == "" then
        redis.call("HDEL", record, ARGV[i])
    else
        redis.call("HSET", record, ARGV[i], ARGV[i + 1])
    end
end
for _, field in ipairs(spec.counts) do
    redis.call("HINCRBY", record, field, 1)
end
local token = 1
if spec.begins then
    redis.call("HINCRBY", record, spec.begins .. ".attempts", 1)
    token = redis.call("HINCRBY", record, "token", 1)
end
if spec.finishes and spec.token then
    redis.call("HSET", record, spec.finishes .. ".finished_by", spec.token)
end

local owner = known[3] or redis.call("HGET", record, "owner") or ""
local function index(by, name)
    return KEYS[9] .. ":" .. by .. ":" .. name
end
local scopes = { "all" }
if owner ~= "" then
    scopes[2] = "owner:" .. owner
end

if status then
    local created = known[4] or redis.call("HGET", record, "created_at") or at
    redis.call("HSET", record, "status", status)
    for _, scope in ipairs(scopes) do
        if present and present ~= status then
            redis.call("ZREM", index(scope, present), job)
        end
        redis.call("ZADD", index(scope, status), created, job)
        redis.call("ZADD", index(scope, "any"), created, job)
    end
    if spec.ended then
        redis.call("HSET", record, "finished_at", at)
        redis.call("ZREM", unfinished, job)
        redis.call("HINCRBY", KEYS[5], status, 1)
        if spec.failure then
            redis.call("HINCRBY", KEYS[5], spec.failure, 1)
        end
    else
        redis.call("HDEL", record, "finished_at")
        redis.call("ZADD", unfinished, at, job)
        redis.call("ZREM", KEYS[8], job .. " " .. owner)
        redis.call("PERSIST", record)
        redis.call("PERSIST", KEYS[2])
    end
    local source = redis.call("HGET", record, "source") or ""
    if string.sub(source, 1, 7) == "upload:" then
        if spec.needs_source then
            redis.call("ZREM", KEYS[6], source)
        else
            redis.call("ZADD", KEYS[6], at, source)
        end
    end
    if spec.arrives then
        redis.call("XADD", KEYS[7], "MAXLEN", "~", 1000, "*", "job", job)
    end
end

local receiver = spec.notify and present ~= status and redis.call("HGET", record, "webhook.receiver")
if receiver then
    local earlier = redis.call("HMGET", record, "webhook.pending", "webhook.stopped")
    local number = redis.call("HINCRBY", record, "webhook.events", 1)
    local pending = (earlier[1] or "") .. number .. ":" .. status .. ":" .. at .. " "
    redis.call("HSET", record, "webhook.pending", pending)
    if (earlier[1] or "") == "" then
        redis.call("HSET", record, "webhook.since", at)
    end
    -- A job with a delivery in progress is checked again when that is over.
    local busy = tonumber(redis.call("ZSCORE", outbox .. ":busy:" .. receiver, job) or 0)
    if not earlier[2] and busy <= now then
        redis.call("ZADD", outbox .. ":jobs:" .. receiver, at, job)
        local pause = tonumber(redis.call("HGET", outbox .. ":receiver:" .. receiver, "until") or 0)
        local look = tonumber(redis.call("ZSCORE", outbox .. ":receivers", receiver) or math.huge)
        if pause <= now then
            redis.call("HSET", outbox .. ".msgs", spec.notify.id, spec.notify.body)
            redis.call("RPUSH", outbox, spec.notify.id)
            pause = now + 60 -- in case the message is lost
        end
        if look > pause then
            redis.call("ZADD", outbox .. ":receivers", pause, receiver)
        end
    end
end

if spec.message then
    local queue = KEYS[10] .. ":" .. spec.message.queue
    redis.call("HSET", queue .. ".msgs", spec.message.id, spec.message.body)
    redis.call("RPUSH", queue, spec.message.id)
end

if spec.event then
    redis.call("XADD", KEYS[2], "MAXLEN", "~", 1000, "*", "event", spec.event)
end
local ended = spec.ended or (not status and redis.call("HEXISTS", record, "finished_at") == 1)
if ended then
    redis.call("PEXPIRE", record, spec.ttl)
    redis.call("PEXPIRE", KEYS[2], spec.ttl)
    redis.call("ZADD", KEYS[8], now + spec.ttl / 1000, job .. " " .. owner)
end
return token
