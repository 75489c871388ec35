-- Takes one failure from the account of each job, once.
--
-- KEYS[1]… hashes: the jobs' accounts
-- ARGV[1]  field that notes that it was done

for _, account in ipairs(KEYS) do
    local failures = tonumber(redis.call("HGET", account, "failures") or 0)
    if failures > 0 and redis.call("HSETNX", account, ARGV[1], 1) == 1 then
        redis.call("HINCRBY", account, "failures", -1)
    end
end
