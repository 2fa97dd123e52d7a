-- For Ardour's own Lua: puts Backline on a track, says which parameters Ardour shows of it, and sets them as its user
-- would while the engine runs; then saves the session and opens it again without the packs that the plugin remembers.
--
--   ardour7-lua ardour_parameters.lua FOLDER REMEMBERED
--
-- Lines, with tabs: "parameter LABEL WRITABLE LOWER UPPER", "latency AFTER SAMPLES", "value WHEN LABEL NUMBER".

local folder, remembered = arg[1], arg[2]

local function line(...) -- Ardour's print takes what it gets apart by spaces
    local words = { ... }
    for number, word in ipairs(words) do words[number] = tostring(word) end
    print(table.concat(words, "\t"))
end

-- The track's plugin, and its parameters by name: Ardour counts those that it shows.
local function look(track)
    local processor = track:nth_plugin(0)
    local insert = processor:to_insert()
    local plugin, numbers = insert:plugin(0), {}
    local self = { insert = insert, descriptors = {} }
    for number = 0, plugin:parameter_count() - 1 do
        local _, told = plugin:get_parameter_descriptor(number, ARDOUR.ParameterDescriptor())
        numbers[told[2].label] = number
        self.descriptors[number] = { told[2].label, plugin:parameter_is_input(number), told[2].lower, told[2].upper }
    end
    function self.set(label, value)
        assert(ARDOUR.LuaAPI.set_processor_param(processor, numbers[label], value), label)
    end
    function self.say(when, label)
        line("value", when, label, (ARDOUR.LuaAPI.get_processor_param(processor, numbers[label], true)))
    end
    return self
end

local function await_latency(backline, after, wanted)
    local begin = os.time()
    repeat sleep(0.1) until backline.insert:signal_latency() == wanted or os.time() - begin > 20
    line("latency", after, backline.insert:signal_latency())
end

local session = assert(create_session(folder, "song", 48000))
local last, normal = ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal
local track = session:new_audio_track(2, 2, nil, 1, "voice", last, normal, true):front()
track:set_strict_io(true) -- as the dialog for new tracks does
local processor = ARDOUR.LuaAPI.new_plugin(session, "Backline", ARDOUR.PluginType.VST3, "")
assert(not processor:isnil(), "Ardour knows no plugin Backline")
assert(track:add_processor_by_index(processor, 0, nil, true) == 0)

local backline = look(track)
for number = 0, #backline.descriptors do line("parameter", table.unpack(backline.descriptors[number])) end
await_latency(backline, "inserted", 144000)
backline.say("connecting", "Status")
backline.set("Status", 6)
backline.set("Latency budget", 1.5)
await_latency(backline, "raised", 72000)
backline.set("Mode", 1)
await_latency(backline, "live", 0)
backline.say("set", "Status")
backline.set("Pack", 4)
backline.set("Gain", -12)
sleep(0.2)
session:save_state("", false, false, false, false, false)
backline, processor, track = nil, nil, nil
session:close()

assert(os.remove(remembered))
session = assert(load_session(folder, "song"))
backline = look(session:route_by_name("voice"))
for _, label in ipairs({ "Pack", "Mode", "Gain", "Latency budget" }) do backline.say("loaded", label) end
await_latency(backline, "loaded", 0)
backline = nil
session:close()
