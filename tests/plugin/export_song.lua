-- For Ardour's own Lua: composes a session with a recording on a track and Backline behind it, saves it, opens it again
-- and exports it.
--
--   ardour7-lua export_song.lua FOLDER RECORDING SAMPLES TEMPO PRESET NAME=DRY_WET...
--
-- Every NAME becomes FOLDER/export/NAME.wav, made with that Dry/Wet. For each a line says the name, whether Ardour has
-- exported it, and the plugin's Status half a second later.

local folder, recording, samples, tempo, preset = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4]), arg[5]
local RATE, SEED = 48000, 7

-- The plugin's parameters by name: Ardour counts those that it shows.
local function plugin_of(session)
    local processor = session:route_by_name("voice"):nth_plugin(0)
    local plugin, numbers = processor:to_insert():plugin(0), {}
    for number = 0, plugin:parameter_count() - 1 do
        local _, told = plugin:get_parameter_descriptor(number, ARDOUR.ParameterDescriptor())
        numbers[told[2].label] = number
    end
    return {
        set = function(name, value) assert(ARDOUR.LuaAPI.set_processor_param(processor, numbers[name], value), name) end,
        get = function(name) return (ARDOUR.LuaAPI.get_processor_param(processor, numbers[name], true)) end,
    }
end

local function compose()
    local session = assert(create_session(folder, "song", RATE))
    local map = Temporal.TempoMap.write_copy()
    map:set_tempo(Temporal.Tempo(tempo, tempo, 4), Temporal.timepos_t(0))
    Temporal.TempoMap.update(map)
    local last, normal = ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal
    local track = session:new_audio_track(2, 2, nil, 1, "voice", last, normal, true):front()
    track:set_strict_io(true) -- as the dialog for new tracks does
    local processor = ARDOUR.LuaAPI.new_plugin(session, "Backline", ARDOUR.PluginType.VST3, "")
    assert(not processor:isnil(), "Ardour knows no plugin Backline")
    assert(track:add_processor_by_index(processor, 0, nil, true) == 0)
    plugin_of(session).set("Seed", SEED)
    repeat sleep(0.05) until track:output():audio(1):connected() -- by a thread of its own
    session:save_state("", false, false, false, false, false)
    session:close()
end

-- Ardour's Lua cannot import: the recording is put into the saved session as embedding it would have done.
local function embed()
    local path = folder .. "/song.ardour"
    local file = assert(io.open(path))
    local session = file:read("a")
    file:close()
    local function put(pattern, text)
        local count
        session, count = session:gsub(pattern, text)
        assert(count == 1, pattern)
    end
    local source = '<Source name="%s" type="audio" flags="" id="%d" channel="%d" gain="1" origin="%s"/>'
    local left, right = 1000001, 1000002 -- far beyond the numbers that Ardour has given
    put("<Sources/>", "<Sources>" .. source:format(recording, left, 0, recording)
        .. source:format(recording, right, 1, recording) .. "</Sources>")
    local region = '<Region name="voice" type="audio" id="1000003" start="0" position="0" length="%d" channels="2" '
        .. 'source-0="%d" source-1="%d" master-source-0="%d" master-source-1="%d" opaque="1" '
        .. 'fade-in-active="0" fade-out-active="0"/>'
    put('(<Playlist [^>]*name="voice"[^>]*)/>',
        "%1>" .. region:format(samples, left, right, left, right) .. "</Playlist>")
    file = assert(io.open(path, "w"))
    file:write(session)
    file:close()
end

local function export(session, plugin, name, dry_wet)
    plugin.set("Dry/Wet", dry_wet)
    local take = session:simple_export()
    take:set_name(name)
    take:set_folder(folder .. "/export")
    take:set_range(0, samples)
    assert(take:set_preset(preset), preset)
    local exported = take:run_export()
    sleep(0.5)
    print(name, exported, math.floor(plugin.get("Status")))
end

compose()
embed()
local session = assert(load_session(folder, "song"))
local plugin = plugin_of(session)
assert(plugin.get("Seed") == SEED, "the seed was not saved")
for number = 6, #arg do
    local name, dry_wet = arg[number]:match("(.*)=(.*)")
    export(session, plugin, name, tonumber(dry_wet))
end
plugin = nil
session:close()
