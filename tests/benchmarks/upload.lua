-- For wrk: repeat the same upload.
local file = assert(io.open(os.getenv("UPLOAD_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
for name, value in string.gmatch(os.getenv("UPLOAD_HEADERS"), "([^:\n]+): ([^\n]+)") do
    wrk.headers[name] = value
end
file:close()
