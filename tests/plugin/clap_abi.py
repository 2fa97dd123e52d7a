"""CLAP's C structures in ctypes: what the header files say, and nothing else."""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int16,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)

NAME_SIZE, PATH_SIZE = 256, 1024
INVALID_ID = 0xFFFFFFFF
FACTORY_ID = b"clap.plugin-factory"
BEATTIME_FACTOR = SECTIME_FACTOR = 1 << 31

PROCESS_ERROR, PROCESS_CONTINUE = 0, 1

CORE_SPACE = 0
NOTE_ON, NOTE_OFF, NOTE_CHOKE = 0, 1, 2
NOTE_EXPRESSION, PARAM_VALUE, PARAM_MOD = 4, 5, 6
TRANSPORT, MIDI = 9, 10

PARAM_STEPPED, PARAM_READONLY, PARAM_BYPASS, PARAM_AUTOMATABLE, PARAM_ENUM = 1 << 0, 1 << 3, 1 << 4, 1 << 5, 1 << 16
PARAM_HIDDEN = 1 << 2
RESCAN_VALUES, RESCAN_TEXT, RESCAN_INFO, RESCAN_ALL = 1 << 0, 1 << 1, 1 << 2, 1 << 3
PORT_IS_MAIN, PORT_SUPPORTS_64BITS = 1 << 0, 1 << 1
DIALECT_CLAP, DIALECT_MIDI = 1 << 0, 1 << 1
RENDER_REALTIME, RENDER_OFFLINE = 0, 1
INFINITE_TAIL = 0x7FFFFFFF  # and above

HAS_TEMPO, HAS_BEATS, HAS_SECONDS, HAS_SIGNATURE, IS_PLAYING = (1 << bit for bit in range(5))
IS_LOOPING = 1 << 6


class Version(Structure):
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("revision", c_uint32)]


class Descriptor(Structure):
    _fields_ = [
        ("version_of_clap", Version),
        ("id", c_char_p),
        ("name", c_char_p),
        ("vendor", c_char_p),
        ("url", c_char_p),
        ("manual_url", c_char_p),
        ("support_url", c_char_p),
        ("version", c_char_p),
        ("description", c_char_p),
        ("features", POINTER(c_char_p)),
    ]


class Host(Structure):
    _fields_ = [
        ("version_of_clap", Version),
        ("host_data", c_void_p),
        ("name", c_char_p),
        ("vendor", c_char_p),
        ("url", c_char_p),
        ("version", c_char_p),
        ("get_extension", CFUNCTYPE(c_void_p, c_void_p, c_char_p)),
        ("request_restart", CFUNCTYPE(None, c_void_p)),
        ("request_process", CFUNCTYPE(None, c_void_p)),
        ("request_callback", CFUNCTYPE(None, c_void_p)),
    ]


class HostLatency(Structure):
    _fields_ = [("changed", CFUNCTYPE(None, c_void_p))]


class HostParams(Structure):
    _fields_ = [
        ("rescan", CFUNCTYPE(None, c_void_p, c_uint32)),
        ("clear", CFUNCTYPE(None, c_void_p, c_uint32, c_uint32)),
        ("request_flush", CFUNCTYPE(None, c_void_p)),
    ]


class HostThreadCheck(Structure):
    _fields_ = [
        ("is_main_thread", CFUNCTYPE(c_bool, c_void_p)),
        ("is_audio_thread", CFUNCTYPE(c_bool, c_void_p)),
    ]


class AudioBuffer(Structure):
    _fields_ = [
        ("data32", POINTER(POINTER(c_float))),
        ("data64", POINTER(POINTER(c_double))),
        ("channel_count", c_uint32),
        ("latency", c_uint32),
        ("constant_mask", c_uint64),
    ]


class EventHeader(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("time", c_uint32),
        ("space_id", c_uint16),
        ("type", c_uint16),
        ("flags", c_uint32),
    ]


class NoteEvent(Structure):
    _fields_ = [
        ("header", EventHeader),
        ("note_id", c_int32),
        ("port_index", c_int16),
        ("channel", c_int16),
        ("key", c_int16),
        ("velocity", c_double),
    ]


class ParamValueEvent(Structure):
    _fields_ = [
        ("header", EventHeader),
        ("param_id", c_uint32),
        ("cookie", c_void_p),
        ("note_id", c_int32),
        ("port_index", c_int16),
        ("channel", c_int16),
        ("key", c_int16),
        ("value", c_double),
    ]


class TransportEvent(Structure):
    _fields_ = [
        ("header", EventHeader),
        ("flags", c_uint32),
        ("song_pos_beats", c_int64),
        ("song_pos_seconds", c_int64),
        ("tempo", c_double),
        ("tempo_inc", c_double),
        ("loop_start_beats", c_int64),
        ("loop_end_beats", c_int64),
        ("loop_start_seconds", c_int64),
        ("loop_end_seconds", c_int64),
        ("bar_start", c_int64),
        ("bar_number", c_int32),
        ("tsig_num", c_uint16),
        ("tsig_denom", c_uint16),
    ]


class MidiEvent(Structure):
    _fields_ = [("header", EventHeader), ("port_index", c_uint16), ("data", c_uint8 * 3)]


class InputEvents(Structure):
    _fields_ = [
        ("ctx", c_void_p),
        ("size", CFUNCTYPE(c_uint32, c_void_p)),
        ("get", CFUNCTYPE(c_void_p, c_void_p, c_uint32)),
    ]


class OutputEvents(Structure):
    _fields_ = [("ctx", c_void_p), ("try_push", CFUNCTYPE(c_bool, c_void_p, POINTER(EventHeader)))]


class Process(Structure):
    _fields_ = [
        ("steady_time", c_int64),
        ("frames_count", c_uint32),
        ("transport", POINTER(TransportEvent)),
        ("audio_inputs", POINTER(AudioBuffer)),
        ("audio_outputs", POINTER(AudioBuffer)),
        ("audio_inputs_count", c_uint32),
        ("audio_outputs_count", c_uint32),
        ("in_events", POINTER(InputEvents)),
        ("out_events", POINTER(OutputEvents)),
    ]


class Plugin(Structure):
    _fields_ = [
        ("desc", POINTER(Descriptor)),
        ("plugin_data", c_void_p),
        ("init", CFUNCTYPE(c_bool, c_void_p)),
        ("destroy", CFUNCTYPE(None, c_void_p)),
        ("activate", CFUNCTYPE(c_bool, c_void_p, c_double, c_uint32, c_uint32)),
        ("deactivate", CFUNCTYPE(None, c_void_p)),
        ("start_processing", CFUNCTYPE(c_bool, c_void_p)),
        ("stop_processing", CFUNCTYPE(None, c_void_p)),
        ("reset", CFUNCTYPE(None, c_void_p)),
        ("process", CFUNCTYPE(c_int32, c_void_p, POINTER(Process))),
        ("get_extension", CFUNCTYPE(c_void_p, c_void_p, c_char_p)),
        ("on_main_thread", CFUNCTYPE(None, c_void_p)),
    ]


class Factory(Structure):
    _fields_ = [
        ("get_plugin_count", CFUNCTYPE(c_uint32, c_void_p)),
        ("get_plugin_descriptor", CFUNCTYPE(POINTER(Descriptor), c_void_p, c_uint32)),
        ("create_plugin", CFUNCTYPE(POINTER(Plugin), c_void_p, POINTER(Host), c_char_p)),
    ]


class Entry(Structure):
    _fields_ = [
        ("version_of_clap", Version),
        ("init", CFUNCTYPE(c_bool, c_char_p)),
        ("deinit", CFUNCTYPE(None)),
        ("get_factory", CFUNCTYPE(c_void_p, c_char_p)),
    ]


class AudioPortInfo(Structure):
    _fields_ = [
        ("id", c_uint32),
        ("name", c_char * NAME_SIZE),
        ("flags", c_uint32),
        ("channel_count", c_uint32),
        ("port_type", c_char_p),
        ("in_place_pair", c_uint32),
    ]


class NotePortInfo(Structure):
    _fields_ = [
        ("id", c_uint32),
        ("supported_dialects", c_uint32),
        ("preferred_dialect", c_uint32),
        ("name", c_char * NAME_SIZE),
    ]


class AudioPorts(Structure):
    _fields_ = [
        ("count", CFUNCTYPE(c_uint32, c_void_p, c_bool)),
        ("get", CFUNCTYPE(c_bool, c_void_p, c_uint32, c_bool, POINTER(AudioPortInfo))),
    ]


class NotePorts(Structure):
    _fields_ = [
        ("count", CFUNCTYPE(c_uint32, c_void_p, c_bool)),
        ("get", CFUNCTYPE(c_bool, c_void_p, c_uint32, c_bool, POINTER(NotePortInfo))),
    ]


class ParamInfo(Structure):
    _fields_ = [
        ("id", c_uint32),
        ("flags", c_uint32),
        ("cookie", c_void_p),
        ("name", c_char * NAME_SIZE),
        ("module", c_char * PATH_SIZE),
        ("min_value", c_double),
        ("max_value", c_double),
        ("default_value", c_double),
    ]


class Params(Structure):
    _fields_ = [
        ("count", CFUNCTYPE(c_uint32, c_void_p)),
        ("get_info", CFUNCTYPE(c_bool, c_void_p, c_uint32, POINTER(ParamInfo))),
        ("get_value", CFUNCTYPE(c_bool, c_void_p, c_uint32, POINTER(c_double))),
        ("value_to_text", CFUNCTYPE(c_bool, c_void_p, c_uint32, c_double, c_void_p, c_uint32)),
        ("text_to_value", CFUNCTYPE(c_bool, c_void_p, c_uint32, c_char_p, POINTER(c_double))),
        ("flush", CFUNCTYPE(None, c_void_p, POINTER(InputEvents), POINTER(OutputEvents))),
    ]


class InputStream(Structure):
    _fields_ = [("ctx", c_void_p), ("read", CFUNCTYPE(c_int64, c_void_p, c_void_p, c_uint64))]


class OutputStream(Structure):
    _fields_ = [("ctx", c_void_p), ("write", CFUNCTYPE(c_int64, c_void_p, c_void_p, c_uint64))]


class State(Structure):
    _fields_ = [
        ("save", CFUNCTYPE(c_bool, c_void_p, POINTER(OutputStream))),
        ("load", CFUNCTYPE(c_bool, c_void_p, POINTER(InputStream))),
    ]


class Latency(Structure):
    _fields_ = [("get", CFUNCTYPE(c_uint32, c_void_p))]


class Tail(Structure):
    _fields_ = [("get", CFUNCTYPE(c_uint32, c_void_p))]


class Render(Structure):
    _fields_ = [
        ("has_hard_realtime_requirement", CFUNCTYPE(c_bool, c_void_p)),
        ("set", CFUNCTYPE(c_bool, c_void_p, c_int32)),
    ]
