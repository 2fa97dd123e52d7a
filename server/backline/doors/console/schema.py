"""The contract's messages as a table from which the page reads and writes them: there is no second description of them.

{"Marker": {"1": {"name": "id", "type": "uint64"}, ...}, ...}; a message's field names that message as its type, an
enum's is an int32, and a map is a repeated message of `key` and `value`, marked as one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from backline_protos.v1 import backline_pb2 as pb

TYPES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_ENUM: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


@cache
def schema() -> dict[str, Any]:
    """Of all messages that a stream may carry, by name; those of maps as `Open.ParametersEntry`."""
    found: dict[str, Any] = {}
    _describe(pb.ClientMessage.DESCRIPTOR, found)
    _describe(pb.ServerMessage.DESCRIPTOR, found)
    return found


def _describe(message: Descriptor, found: dict[str, Any]) -> str:
    """Puts a message into `found`, with those that it holds; its name there."""
    name = message.full_name.removeprefix(f"{message.file.package}.")
    if name not in found:
        fields = found[name] = {}
        written = DescriptorProto()
        message.CopyToProto(written)
        for field, as_written in zip(message.fields, written.field, strict=True):
            repeated = as_written.label == FieldDescriptorProto.LABEL_REPEATED
            fields[str(field.number)] = _field(field, repeated, found)
    return name


def _field(field: FieldDescriptor, repeated: bool, found: dict[str, Any]) -> dict[str, Any]:
    kind = field.message_type
    described: dict[str, Any] = {"name": field.name}
    described["type"] = TYPES[field.type] if kind is None else _describe(kind, found)
    if repeated:
        described["map" if kind is not None and kind.GetOptions().map_entry else "repeated"] = True
    if field.has_presence:
        described["optional"] = True
    return described
