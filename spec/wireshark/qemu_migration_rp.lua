-- Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
--
-- Dissects the return path of a QEMU migration: destination to source.
--
--   wireshark -X lua_script:qemu_migration_rp.lua -d tcp.port==4444,qemu_rp capture.pcapng
--
-- or copy this file into Wireshark's folder for personal Lua plugins and set
-- the ports under Preferences, Protocols, QEMU_RP. The port is the one that
-- the destination listens on: data from it is the return path, data to it is
-- the forward stream, which is shown as data.
--
-- A return path that was recorded to a file can be dissected as well:
--
--   od -Ax -tx1 -v capture.rp | text2pcap -P qemu_rp - capture.pcapng
--
-- The bytes do not distinguish the two dialects. Every released QEMU speaks the
-- merged one; for the draft of June 2015 add -o qemu_rp.dialect:v7.
--
-- Nothing behind a malformed message is dissected: the protocol offers no way to
-- find the next message, and QEMU's source stops reading as well.

local proto = Proto("qemu_rp", "QEMU Migration Return Path")

local BITMAP_END = UInt64(0x89abcdef, 0x1234567)
local BITMAP_ALIGN = 8

local RULES = {
    reserved = "Message type 0 is reserved",
    unknown = "Unknown message type",
    too_long = "Payload longer than the limit",
    length = "Invalid payload length for this message",
    short = "Field exceeds the payload",
    leftover = "Bytes behind the last field",
    value = "Invalid value",
    zero = "Length of 0",
    overflow = "Start and length exceed 2^64",
    empty_name = "Empty block name",
    nul = "NUL byte in a block name",
    bitmap_size = "Bitmap size is 0 or not a multiple of 8",
    bitmap_end = "Wrong end mark behind a bitmap",
    after_shut = "Bytes behind SHUT",
}
local STOPS = {
    bitmap_limit = "Bitmap larger than the preference",
    cut_short = "Incomplete message",
    out_of_step = "Not dissected: earlier message malformed or incomplete",
}

local f = {
    type = ProtoField.uint16("qemu_rp.type", "Type", base.DEC),
    length = ProtoField.uint16("qemu_rp.length", "Payload length", base.DEC),
    message = ProtoField.string("qemu_rp.message", "Message"),
    malformed = ProtoField.string("qemu_rp.malformed", "Malformed"),
    shut_value = ProtoField.uint32("qemu_rp.shut.value", "Value", base.DEC, nil, nil,
        "outcome"),
    pong_value = ProtoField.uint32("qemu_rp.pong.value", "Value", base.DEC, nil, nil,
        "value of the PING"),
    req_pages_id_start = ProtoField.uint64("qemu_rp.req_pages_id.start", "Start", base.HEX, nil, nil,
        "first byte of the requested range, a multiple of the block's host page size"),
    req_pages_id_len = ProtoField.uint32("qemu_rp.req_pages_id.len", "Len", base.DEC, nil, nil,
        "length of the requested range; QEMU requests exactly one host page, and reads 2^31 or more as a negative number"),
    req_pages_id_block = ProtoField.string("qemu_rp.req_pages_id.block", "Block", base.UNICODE, "name of the RAM block, as in the block list of the `ram` section"),
    req_pages_id_block_raw = ProtoField.bytes("qemu_rp.req_pages_id.block.raw", "Bytes"),
    req_pages_id_block_len = ProtoField.uint8("qemu_rp.req_pages_id.block.len", "Block name length", base.DEC),
    req_pages_start = ProtoField.uint64("qemu_rp.req_pages.start", "Start", base.HEX, nil, nil,
        "first byte of the requested range, a multiple of the block's host page size"),
    req_pages_len = ProtoField.uint32("qemu_rp.req_pages.len", "Len", base.DEC, nil, nil,
        "length of the requested range; QEMU requests exactly one host page, and reads 2^31 or more as a negative number"),
    recv_bitmap_block = ProtoField.string("qemu_rp.recv_bitmap.block", "Block", base.UNICODE, "name of the RAM block, as in the block list of the `ram` section"),
    recv_bitmap_block_raw = ProtoField.bytes("qemu_rp.recv_bitmap.block.raw", "Bytes"),
    recv_bitmap_block_len = ProtoField.uint8("qemu_rp.recv_bitmap.block.len", "Block name length", base.DEC),
    recv_bitmap_bitmap_size = ProtoField.uint64("qemu_rp.recv_bitmap.bitmap.size", "Bitmap size", base.DEC),
    recv_bitmap_bitmap_data = ProtoField.bytes("qemu_rp.recv_bitmap.bitmap.data", "Bitmap"),
    recv_bitmap_bitmap_received = ProtoField.uint64("qemu_rp.recv_bitmap.bitmap.received", "Pages received", base.DEC),
    recv_bitmap_bitmap_end_mark = ProtoField.uint64("qemu_rp.recv_bitmap.bitmap.end_mark", "End mark", base.HEX),
    resume_ack_value = ProtoField.uint32("qemu_rp.resume_ack.value", "Value", base.DEC, nil, nil,
        "always 1"),
    v7_req_pages_start = ProtoField.uint64("qemu_rp.v7.req_pages.start", "Start", base.HEX, nil, nil,
        "first byte of the requested range, a multiple of the block's host page size"),
    v7_req_pages_len = ProtoField.uint64("qemu_rp.v7.req_pages.len", "Len", base.DEC, nil, nil,
        "length of the requested range; even, because bit 0 is a flag: a name follows"),
    v7_req_pages_len_flag = ProtoField.bool("qemu_rp.v7.req_pages.len.named", "Name follows"),
    v7_req_pages_block = ProtoField.string("qemu_rp.v7.req_pages.block", "Block", base.UNICODE, "name of the RAM block, present if bit 0 of `len` is set"),
    v7_req_pages_block_raw = ProtoField.bytes("qemu_rp.v7.req_pages.block.raw", "Bytes"),
    v7_req_pages_block_len = ProtoField.uint8("qemu_rp.v7.req_pages.block.len", "Block name length", base.DEC),
}

local DIALECTS = {
    {
        name = "qemu",
        max = 512,
        reserved = 0,
        messages = {
            [1] = {
                label = "SHUT", min = 4, max = 4,
                fields = {
                    { name = "value", field = f.shut_value, size = 4 },
                },
                last = true,
            },
            [2] = {
                label = "PONG", min = 4, max = 4,
                fields = {
                    { name = "value", field = f.pong_value, size = 4 },
                },
            },
            [3] = {
                label = "REQ_PAGES_ID", min = 14, max = 268,
                fields = {
                    { name = "start", field = f.req_pages_id_start, size = 8, unit = "offset" },
                    { name = "len", field = f.req_pages_id_len, size = 4, span = true },
                    { name = "block", field = f.req_pages_id_block, raw = f.req_pages_id_block_raw, count = f.req_pages_id_block_len },
                },
            },
            [4] = {
                label = "REQ_PAGES", min = 12, max = 12,
                fields = {
                    { name = "start", field = f.req_pages_start, size = 8, unit = "offset" },
                    { name = "len", field = f.req_pages_len, size = 4, span = true },
                },
            },
            [5] = {
                label = "RECV_BITMAP", min = 2, max = 256,
                fields = {
                    { name = "block", field = f.recv_bitmap_block, raw = f.recv_bitmap_block_raw, count = f.recv_bitmap_block_len },
                },
                bitmap = {
                    size = f.recv_bitmap_bitmap_size,
                    data = f.recv_bitmap_bitmap_data,
                    received = f.recv_bitmap_bitmap_received,
                    end_mark = f.recv_bitmap_bitmap_end_mark,
                },
            },
            [6] = {
                label = "RESUME_ACK", min = 4, max = 4,
                fields = {
                    { name = "value", field = f.resume_ack_value, size = 4, equals = 1 },
                },
            },
            [7] = {
                label = "SWITCHOVER_ACK", min = 0, max = 0,
                fields = {
                },
            },
        },
    },
    {
        name = "v7",
        max = 512,
        reserved = 0,
        messages = {
            [1] = {
                label = "SHUT", min = 4, max = 4,
                fields = {
                    { name = "value", field = f.shut_value, size = 4 },
                },
                last = true,
            },
            [2] = {
                label = "PONG", min = 4, max = 4,
                fields = {
                    { name = "value", field = f.pong_value, size = 4 },
                },
            },
            [3] = {
                label = "REQ_PAGES", min = 16, max = 272,
                fields = {
                    { name = "start", field = f.v7_req_pages_start, size = 8, unit = "offset" },
                    { name = "len", field = f.v7_req_pages_len, size = 8, kind = "flagged", flag = f.v7_req_pages_len_flag, span = true },
                    { name = "block", field = f.v7_req_pages_block, kind = "flagged_name", raw = f.v7_req_pages_block_raw, count = f.v7_req_pages_block_len },
                },
            },
        },
    },
}

local experts = {}
for rule, text in pairs(RULES) do
    experts[rule] = ProtoExpert.new("qemu_rp.malformed." .. rule, text,
        expert.group.MALFORMED, expert.severity.ERROR)
end
for stop, text in pairs(STOPS) do
    experts[stop] = ProtoExpert.new("qemu_rp." .. stop, text,
        expert.group.UNDECODED, expert.severity.WARN)
end
proto.experts = experts
proto.fields = f

local choices = {}
for number, dialect in ipairs(DIALECTS) do
    choices[number] = { number, dialect.name, number }
end
proto.prefs.dialect = Pref.enum("Dialect", 1,
    "Dialect of the destination; every released QEMU speaks " .. DIALECTS[1].name,
    choices, false)
proto.prefs.ports = Pref.range("TCP ports", "",
    "Ports that destinations listen on", 65535)
proto.prefs.both = Pref.bool("Both directions", false,
    "Dissect data to the port as a return path as well")
proto.prefs.bitmap_limit = Pref.uint("Largest received bitmap (KiB)", 4096,
    "A larger one is not reassembled, and nothing behind it is dissected; 4096 KiB "
    .. "suffice for a block of 128 GiB with pages of 4 KiB")

local tcp_stream = Field.new("tcp.stream")
local as_data = Dissector.get("data")

-- Return paths that are not dissected any further: stream and port to the frame
-- where that began, and the reason.
local lost = {}

function proto.init()
    lost = {}
end

-- Identifies one direction of a connection; nil for bytes from a file, which
-- are complete.
local function flow(pinfo)
    local stream = tcp_stream()
    return stream and stream.value .. ":" .. pinfo.src_port
end

-- Number of bits set in a string.
local bits_of = {}
for byte = 0, 255 do
    local n, rest = 0, byte
    while rest > 0 do
        n, rest = n + rest % 2, math.floor(rest / 2)
    end
    bits_of[byte] = n
end

local function count_bits(bytes)
    local n = 0
    for at = 1, #bytes, 1024 do
        for _, byte in ipairs({ bytes:byte(at, at + 1023) }) do
            n = n + bits_of[byte]
        end
    end
    return n
end

-- A name as text, with unprintable bytes escaped.
local function printable(name)
    return (name:gsub("[^\32-\126]", function(c)
        return string.format("\\x%02x", c:byte())
    end))
end

local function shown(row, value)
    if value == nil then
        return nil
    elseif type(value) == "string" then
        return printable(value)
    elseif row.unit == "offset" then
        return "0x" .. (value:tohex():gsub("^0+(%x)", "%1"))
    end
    return tostring(value)
end

local function fault(rule, at, size, name)
    return { rule = rule, at = at, size = size, name = name }
end

-- Reads a field at `at`; the payload ends at `stop`. Returns its value, its end
-- and the violated rule. An absent flagged name has no value and no size.
local function read_field(row, tvb, at, stop, seen)
    local size = row.size
    if size then
        if at + size > stop then
            return nil, at, "short"
        end
        local value = size == 8 and tvb(at, 8):uint64() or UInt64(tvb(at, size):uint())
        if row.kind == "flagged" then
            seen.named = value:band(1) == UInt64(1)
            value = value - value:band(1)
        end
        return value, at + size
    end
    if row.kind == "flagged_name" and not seen.named then
        return nil, at
    end
    if at >= stop then
        return nil, at, "short"
    end
    local n = tvb(at, 1):uint()
    if n == 0 then
        return nil, at, "empty_name"
    elseif at + 1 + n > stop then
        return nil, at, "short"
    end
    local name = tvb:raw(at + 1, n)
    return name, at + 1 + n, name:find("\0", 1, true) and "nul"
end

-- The rule that a number violates.
local function broken(row, value, before)
    if row.equals and value ~= UInt64(row.equals) then
        return "value"
    elseif row.span and value == UInt64(0) then
        return "zero"
    elseif row.span and before + value < before then
        return "overflow"
    end
end

-- Reads the payload of `message`. Returns one entry for each field, and the
-- defect.
local function read_payload(message, tvb, start, stop)
    local found, seen, at, before = {}, {}, start, nil
    for _, row in ipairs(message.fields) do
        local value, next_at, rule = read_field(row, tvb, at, stop, seen)
        if not rule and row.size then
            rule = broken(row, value, before)
        end
        if rule then
            return found, fault(rule, at, stop - at, row.name)
        end
        found[#found + 1] = { row = row, value = value, at = at, size = next_at - at }
        before, at = value, next_at
    end
    if at < stop then
        return found, fault("leftover", at, stop - at)
    end
    return found
end

-- Reads the message at `at`; bytes up to `stop` are available. Returns the
-- message, or the minimum number of further bytes.
local function read_message(dialect, tvb, at, stop)
    local have = stop - at
    if have < 4 then
        return nil, 4 - have
    end
    local it = { at = at, type = tvb(at, 2):uint(), length = tvb(at + 2, 2):uint() }
    it.size = math.min(4 + it.length, have)
    it.row = dialect.messages[it.type]
    if it.type == dialect.reserved then
        it.fault = fault("reserved", at, 2)
    elseif not it.row then
        it.fault = fault("unknown", at, 2)
    elseif it.length > dialect.max then
        it.fault = fault("too_long", at + 2, 2)
    elseif it.length < it.row.min or it.length > it.row.max then
        it.fault = fault("length", at + 2, 2)
    end
    if it.fault then
        return it
    elseif have < 4 + it.length then
        return nil, 4 + it.length - have
    end

    it.found, it.fault = read_payload(it.row, tvb, at + 4, at + it.size)
    if it.fault or not it.row.bitmap then
        return it
    end
    local trailer = at + it.size
    if stop - trailer < 8 then
        return nil, 8 - (stop - trailer)
    end
    local size = tvb(trailer, 8):uint64()
    it.bitmap = { at = trailer, size = size }
    if size == UInt64(0) or size:band(BITMAP_ALIGN - 1) ~= UInt64(0) then
        it.fault = fault("bitmap_size", trailer, 8)
    elseif size > UInt64(1024) * UInt64(proto.prefs.bitmap_limit) then
        it.fault = fault("bitmap_limit", trailer, 8)
    end
    if it.fault then
        it.size = it.size + 8
        return it
    end
    local whole = it.size + 16 + size:tonumber()
    if have < whole then
        return nil, whole - have
    end
    it.size = whole
    it.bitmap.bytes = size:tonumber()
    it.bitmap.received = count_bits(tvb:raw(trailer + 8, it.bitmap.bytes))
    local mark = at + whole - 8
    if tvb(mark, 8):uint64() ~= BITMAP_END then
        it.fault = fault("bitmap_end", mark, 8)
    end
    return it
end

local function show_bitmap(bitmap, row, tvb, tree)
    local item = tree:add(row.size, tvb(bitmap.at, 8))
    if not bitmap.bytes then
        return
    end
    item:append_text(" bytes")
    local range = tvb(bitmap.at + 8, bitmap.bytes)
    tree:add(row.data, range)
    tree:add(row.received, range, UInt64(bitmap.received)):set_generated()
    tree:add(row.end_mark, tvb(bitmap.at + 8 + bitmap.bytes, 8))
end

-- Adds a message to the tree. Returns its summary line.
local function show_message(it, tvb, tree)
    local label = it.row and it.row.label or "type " .. it.type
    local line = { label }
    local top = tree:add(proto, tvb(it.at, it.size))
    local kind = top:add(f.type, tvb(it.at, 2)):append_text(" (" .. label .. ")")
    if it.row then
        kind:add(f.message, tvb(it.at, 2), label):set_generated()
    end
    top:add(f.length, tvb(it.at + 2, 2))
    for _, found in ipairs(it.found or {}) do
        local row, value = found.row, found.value
        if type(value) == "string" then
            local range = tvb(found.at + 1, found.size - 1)
            top:add(row.count, tvb(found.at, 1))
            top:add(row.field, range, printable(value)):add(row.raw, range)
        elseif row.flag then
            local range = tvb(found.at, found.size)
            local item = top:add(row.field, range, value)
            item:add(row.flag, range, tvb(found.at + found.size - 1, 1):bitfield(7, 1) == 1)
        elseif value then
            top:add(row.field, tvb(found.at, found.size))
        end
        if row.span then
            line[#line] = line[#line] .. "+" .. tostring(value)
        else
            line[#line + 1] = shown(row, value)
        end
    end
    if it.bitmap then
        show_bitmap(it.bitmap, it.row.bitmap, tvb, top)
        if it.bitmap.received then
            line[#line + 1] = it.bitmap.received .. " received"
        end
    end
    line = table.concat(line, " ")
    top:append_text(", " .. line)
    if it.fault then
        local where = it.fault.name and " in " .. it.fault.name or ""
        local item = top:add(f.malformed, tvb(it.fault.at, it.fault.size), it.fault.rule)
        item:append_text(where)
        item:add_proto_expert_info(experts[it.fault.rule])
        line = line .. " [" .. (RULES[it.fault.rule] or STOPS[it.fault.rule]) .. where .. "]"
    end
    return line
end

-- Marks the remaining bytes as not dissected.
local function show_rest(tvb, at, expert, text, tree)
    if at < tvb:len() then
        local top = tree:add(proto, tvb(at))
        top:add_proto_expert_info(expert, text)
        top:append_text(", " .. text)
    end
end

-- Whether the bytes come from the listening side.
local function from_destination(pinfo)
    local port = pinfo.match_uint
    return proto.prefs.both or pinfo.dst_port ~= port or pinfo.src_port == port
end

function proto.dissector(tvb, pinfo, tree)
    local stop = tvb:len()
    if not from_destination(pinfo) then
        pinfo.cols.protocol = "QEMU_FWD"
        as_data:call(tvb, pinfo, tree)
        return stop
    end
    pinfo.cols.protocol = "QEMU_RP"

    local dialect = DIALECTS[proto.prefs.dialect]
    local key = flow(pinfo)
    local known = key and lost[key]
    local gone = known and known.frame < pinfo.number and known
    local function lose(rule)
        if key and not known then
            lost[key] = { frame = pinfo.number, rule = rule }
        end
        return { frame = pinfo.number, rule = rule }
    end

    local lines, at = {}, 0
    while at < stop and not gone do
        local it, need = read_message(dialect, tvb, at, stop)
        if need and key and pinfo.can_desegment > 0 then
            pinfo.desegment_offset = at
            pinfo.desegment_len = need
            break
        elseif need then
            show_rest(tvb, at, experts.cut_short, need .. " more bytes are needed", tree)
            lines[#lines + 1] = "[incomplete]"
            lose("out_of_step")
            break
        end
        lines[#lines + 1] = show_message(it, tvb, tree)
        at = at + it.size
        if it.fault then
            gone = lose("out_of_step")
        elseif it.row.last then
            gone = lose("after_shut")
        end
    end
    if gone then
        show_rest(tvb, at, experts[gone.rule],
            (RULES[gone.rule] or STOPS[gone.rule]) .. " since frame " .. gone.frame, tree)
    end
    if #lines > 0 then
        pinfo.cols.info:set(table.concat(lines, "; "))
        pinfo.cols.info:fence()
    end
    return stop
end

local tcp = DissectorTable.get("tcp.port")
local ports = ""

function proto.prefs_changed()
    if proto.prefs.ports ~= ports then
        if ports ~= "" then
            tcp:remove(ports, proto)
        end
        ports = proto.prefs.ports
        if ports ~= "" then
            tcp:add(ports, proto)
        end
    end
end

tcp:add_for_decode_as(proto)
