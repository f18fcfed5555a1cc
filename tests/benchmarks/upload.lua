-- For wrk: repeat the same upload.
local file = assert(io.open(os.getenv("UPLOAD_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = os.getenv("UPLOAD_TYPE")
file:close()
