-- Asks a verification door of Keyrack about a request, with HAProxy's own HTTP client:
--     http-request lua.keyrack http://127.0.0.1:8081/v1/auth/haproxy
-- An allowed request gets the identity headers and the variable `txn.keyrack_allowed`; every other one ends here.

-- HAProxy 2.6 asks four times before it gives up, and cannot be told otherwise: 2 seconds in all.
local TIMEOUT_MS = 500

local IDENTITY = {
    "x-keyrack-key-id", "x-keyrack-project-id", "x-keyrack-organization-id",
    "x-keyrack-role", "x-keyrack-scope", "x-keyrack-seq",
}

-- Besides the key, fields that a client could change the meaning of its request with: the door refuses them, also with `_`
-- for `-`, which some applications cannot tell apart.
local PASSED_ON = {
    ["authorization"] = true, ["x-http-method-override"] = true, ["x-http-method"] = true, ["x-method-override"] = true,
}

-- What a client is told of a denial.
local TOLD = {
    "content-type", "cache-control", "www-authenticate", "retry-after", "x-request-id",
    "x-keyrack-reason", "x-keyrack-detail", "x-keyrack-status",
    "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit", "ratelimit-policy",
}

-- HAProxy counts the values of a field from 0; the client takes them from 1.
local function values(field)
    local all = {}
    local at = 0
    while field ~= nil and field[at] ~= nil do
        all[#all + 1] = field[at]
        at = at + 1
    end
    return all
end

local function refuse(txn, status, headers, body)
    txn:done(txn:reply({ status = status, headers = headers, body = body }))
end

local function unavailable(txn)
    refuse(txn, 503, {
        ["content-type"] = { "application/json" },
        ["retry-after"] = { "1" },
        ["x-keyrack-reason"] = { "UNAVAILABLE" },
    }, '{"status":"error","code":"service_unavailable"}\n')
end

core.register_action("keyrack", { "http-req" }, function(txn, door)
    local sent = txn.http:req_get_headers()
    local question = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-uri"] = { txn.sf:pathq() },
        ["x-forwarded-host"] = values(sent["host"]),
        ["x-forwarded-for"] = { txn.sf:src() },
    }
    for name, found in pairs(sent) do
        if PASSED_ON[name:gsub("_", "-")] then
            question[name] = values(found)
        end
    end

    local answer = core.httpclient():get({ url = door, headers = question, timeout = TIMEOUT_MS })
    -- HAProxy makes up a reply where there is none; only Keyrack's own names a reason, or a key.
    local said = answer and answer.headers or {}
    if answer and answer.status == 200 and said["x-keyrack-key-id"] then
        for _, name in ipairs(IDENTITY) do
            txn.http:req_set_header(name, said[name] and said[name][0] or "-")
        end
        txn:set_var("txn.keyrack_allowed", true)
    elseif answer and answer.status >= 400 and said["x-keyrack-reason"] then
        local headers = {}
        for _, name in ipairs(TOLD) do
            if said[name] then
                headers[name] = values(said[name])
            end
        end
        refuse(txn, answer.status, headers, answer.body)
    else
        unavailable(txn)
    end
end, 1)
